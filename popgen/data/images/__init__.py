"""What is done to images: variants, which are part of a data set's name, and augmentation."""
