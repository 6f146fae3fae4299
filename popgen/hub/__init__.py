"""The Hugging Face hub: names of repositories, download of generators and zoos, upload of popgen's folders."""
