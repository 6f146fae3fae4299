"""Settings that people write: YAML files as pydantic models, one file a section of the command line."""
