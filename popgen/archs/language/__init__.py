"""Language models as architectures: `lm:BASE`, where BASE is a folder of transformers, a name of its hub, or a llama2.c file."""
