"""The command line: each command parses, makes one library call, and prints. Data goes to stdout, progress and remarks to stderr.

torch is imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

import click

from popgen import __version__
from popgen.cli.adapt import adapt_command
from popgen.cli.audit import audit_command
from popgen.cli.bench import bench_command
from popgen.cli.encode import encode_command
from popgen.cli.generate import generate_command, retrieve_command
from popgen.cli.measure.compression import compression_command
from popgen.cli.measure.layers import layers_command
from popgen.cli.measure.rank import rank_command
from popgen.cli.merge import merge_command
from popgen.cli.options import TRUST
from popgen.cli.push import push_command
from popgen.cli.report import report_command
from popgen.cli.search import search_command
from popgen.cli.sweep import sweep_command
from popgen.cli.train import train_command
from popgen.cli.zoo import zoo


@click.group()
@click.version_option(__version__)
def cli() -> None:
    """Turns a zoo of checkpoints into one conditional generator, and the generator into good weights for a new job.

    \b
    Exit codes: 0 done, 1 the search failed, 2 wrong usage, 3 unknown name, 4 input that does not fit,
    5 broken file, 6 not reachable without a network or an extra package, 7 cannot go on, 130 Ctrl-C.
    POPGEN_DEBUG=1 shows the traceback of an error.
    """


_COMMANDS = (
    search_command,
    sweep_command,
    bench_command,
    report_command,
    generate_command,
    retrieve_command,
    adapt_command,
    merge_command,
    train_command,
    encode_command,
    compression_command,
    audit_command,
    layers_command,
    rank_command,
    push_command,
    zoo,
)
for command in _COMMANDS:
    cli.add_command(command)
for command in (
    *(one for one in _COMMANDS if one is not zoo),
    *zoo.commands.values(),
):  # each may read a zoo or a generator that names code
    command.params.append(TRUST)
