"""The rivals that every result is shown beside."""

from popgen.audit.baselines import Finetuned, Rivals, Row
from popgen.audit.compression import CompressionReport, arch_rows, compression_report, compression_rows

__all__ = ["CompressionReport", "Finetuned", "Rivals", "Row", "arch_rows", "compression_report", "compression_rows"]
