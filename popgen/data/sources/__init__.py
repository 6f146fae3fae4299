"""Where data sets come from: torchvision and its binary layouts, files and folders, the Hugging Face hub."""
