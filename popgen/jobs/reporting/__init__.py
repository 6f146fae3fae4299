"""The steps of `popgen report`: each reads a part of a run or sweep, and makes sections of a report of it."""
