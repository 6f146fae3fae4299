"""Evaluation of candidates: in this process, or on Ray actors of this machine or a cluster."""
