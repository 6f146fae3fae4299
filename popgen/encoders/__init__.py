"""What turns an architecture's text and a data set's images into conditions; import the modules, not this package."""
