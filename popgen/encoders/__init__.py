"""Encoders of architecture texts and of data sets' examples, as conditions for the generator.

Import the modules, not this package: each loads the large library behind its encoder.
"""
