"""Settings as a folded block of YAML."""

from __future__ import annotations

from typing import Any

import yaml


def settings_block(title: str, content: dict[str, Any]) -> str:
    """A block that opens on a click; keys without a value are left out."""
    text = yaml.safe_dump(_filled(content), sort_keys=False, allow_unicode=True)
    return f"<details><summary>{title}</summary>\n\n```yaml\n{text}```\n\n</details>"


def _filled(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _filled(value) for key, value in content.items() if value not in (None, [], {})}
    if isinstance(content, list):
        return [_filled(value) for value in content]
    return content
