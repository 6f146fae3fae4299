"""`popgen push`: a generator, a zoo or results on the Hugging Face hub."""

from __future__ import annotations

import click

from popgen.cli.options import JSON
from popgen.cli.say import remark, start
from popgen.json_text import json_text


@click.command("push")
@click.argument("name", metavar="OWNER/NAME")
@click.argument("folder", type=click.Path())
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option("--revision", help="Branch, which is made where it is missing.  [default: main]")
@click.option("--message", help="Message of the commit.")
@click.option(
    "--audit", type=click.Path(), help="What `popgen audit` of this generator wrote.  [default: FOLDER/audit]"
)
@click.option("--dry-run", is_flag=True, help="List what would be sent, and ask nothing of the hub.")
@JSON
def push_command(
    name: str,
    folder: str,
    private: bool,
    revision: str | None,
    message: str | None,
    audit: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send FOLDER, a generator, a zoo or results, to the Hugging Face hub with a card.

    Elsewhere it is then named hub:OWNER/NAME. The token is that of HF_TOKEN or of `hf auth login`.

    \b
    Examples:
      popgen push ann/digits-generator generators/digits --dry-run
      popgen push ann/digits-generator generators/digits --audit audit --private
    """
    from popgen.jobs.names import check_push_names

    check_push_names(name, folder, revision)
    start(f"{'checking' if dry_run else 'sending'} {folder}")
    from popgen.jobs.push import push

    options = {"private": private, "revision": revision, "message": message, "audit": audit, "dry_run": dry_run}
    pushed = push(name, folder, **options, say=remark)  # type: ignore[arg-type]
    if as_json:
        click.echo(json_text(pushed.to_json(), indent=1))
        return
    for path, size in pushed.files.items():
        click.echo(f"{_bytes(size):>10}  {path}")
    total = f"{len(pushed.files)} files, {_bytes(sum(pushed.files.values()))}"
    click.echo(f"{total} for {name}, nothing was sent" if dry_run else f"{total}: {pushed.url}")


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
