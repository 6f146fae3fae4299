"""Codecs: ways to write one network as bytes and to read it back."""
