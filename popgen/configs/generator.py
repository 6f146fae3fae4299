"""Settings of a generator: the `generator:` section of a spec, and part of the config.json of a saved generator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from popgen.configs.load import Strict
from popgen.configs.sampling import Sampling
from popgen.configs.spec import DataGrid


class VAEConfig(Strict):
    """Sizes and losses of the VAE. The latent has latent_tokens x latent_width numbers for every architecture."""

    latent_tokens: int = Field(4, ge=1)
    latent_width: int = Field(8, ge=1)
    linear: bool = True  # offset + basis x latent for each trained architecture, added to the position decoder's output
    # Initial offset of the linear path: the mean of the checkpoints, or the checkpoint with the lowest loss on training
    # images. The mean of independent training runs is no good network.
    offset: Literal["mean", "checkpoint"] = "mean"
    token_width: int = Field(64, ge=4)  # weights in a token
    width: int = Field(96, ge=16)  # width of the transformer
    heads: int = Field(4, ge=1)
    decoder_layers: int = Field(1, ge=1)
    steps: int = Field(8000, ge=1)
    batch: int = Field(16, ge=2)  # networks in a step, all of one architecture
    learning_rate: float = Field(2e-3, gt=0)
    reconstruction: float = Field(1.0, ge=0)  # weight of the mean squared error of normalised weights
    behaviour: float = Field(1.0, ge=0)  # weight of the decoded networks' cross-entropy on their task's images
    behaviour_networks: int = Field(6, ge=1)  # decoded networks that are evaluated in a step
    behaviour_images: int = Field(64, ge=8)  # images on which each of them is evaluated
    # Weight of the divergence from the normal. With 0.001 there are gaps between the codes: networks decoded from midpoints
    # lost 0.3 (cnn-s) and 0.8 (resnet-s) points of accuracy.
    kl: float = Field(0.01, ge=0)
    mixup: float = Field(0.5, ge=0, le=1)  # share of inputs that are averages of two checkpoints of one data set
    input_noise: float = Field(0.3, ge=0)  # standard deviation of noise on normalised weights before they are encoded
    # Accuracy that reconstruction may cost on held-out lineages; if it costs more, training stops before the prior.
    gate: float = Field(0.02, gt=0)


class EncoderConfig(Strict):
    """The encoders of both conditions, and the training of the data set encoder."""

    images: str = "clip-tiny"  # an open_clip model: the built-in one, MODEL/PRETRAINED, hf-hub:NAME or local-dir:PATH
    text: str = "text-tiny"  # a sentence-transformers model: the built-in one, a hub name, or a folder
    labels: bool = True  # False: the condition is a set of images without classes
    images_per_class: int = Field(5, ge=1)  # images of each class in a draw; without labels, images of all classes
    # Images of each class (without labels, of all classes) whose features training uses; null: all images.
    pool: int | None = Field(None, ge=1)
    width: int = Field(96, ge=16)
    heads: int = Field(4, ge=1)
    out: int = Field(64, ge=4)  # width of the data set embedding
    steps: int = Field(1500, ge=1)
    batch: int = Field(24, ge=2)  # data sets in a step
    learning_rate: float = Field(1e-3, gt=0)
    temperature: float = Field(0.1, gt=0)  # initial temperature of the contrastive loss
    regression: float = Field(1.0, ge=0)  # weight of the linear prediction of latents, relative to the contrastive loss


# The default sampler is euler for a flow and ddim for a DDPM; the default prior is the one that training chose.
DEFAULT_SAMPLING = Sampling(steps=4, guidance=1.0, strength=1.0)


class PriorConfig(Strict):
    """The latent prior: a predicted mean, and around it flow matching, or the DDPM of the original method.

    `ridge` and `kde` are priors in closed form (popgen.generator.model.closed_form_priors). `auto` trains a flow, and
    chooses one of these if it does better on held-out lineages.
    """

    kind: Literal["auto", "flow", "ddpm", "ridge", "kde"] = "auto"
    width: int = Field(96, ge=16)
    heads: int = Field(4, ge=1)
    layers: int = Field(3, ge=1)
    steps: int = Field(2000, ge=1)
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    drop_condition: float = Field(0.1, ge=0, lt=1)  # share of examples without one of the conditions, for guidance
    use_data: bool = True  # False: the prior ignores the data set; for ablations
    use_arch: bool = True  # False: the prior ignores the architecture; for ablations
    ema: float = Field(0.999, ge=0, lt=1)  # decay of the averaged parameters, which are kept
    sampling: Sampling = Sampling()  # defaults of a sampling; completed from DEFAULT_SAMPLING
    temperature: float = Field(0.3, ge=0)  # scale of samples around the mean: 1 is the spread of the codes, 0 the mean

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, content: Any) -> Any:
        """Complete `sampling` with defaults."""
        given = content.get("sampling") or {} if isinstance(content, dict) else None
        if not isinstance(given, (dict, Sampling)):
            return content  # pydantic refuses it when it checks the fields
        own = given if isinstance(given, Sampling) else Sampling.model_validate(given)
        return {**content, "sampling": own.over(DEFAULT_SAMPLING)}


class TuneConfig(Strict):
    """The stage `tuning`: data set encoder, prior and decoder learn together what generated networks do."""

    steps: int = Field(4000, ge=0)
    # Additional data sets, without checkpoints, from which this stage learns.
    tasks: list[Annotated[DataGrid, BeforeValidator(lambda v: {"source": v} if isinstance(v, str) else v)]] = []
    networks: int = Field(16, ge=2)  # networks that are generated in a step, each for a randomly drawn data set
    images: int = Field(48, ge=8)  # images on which each of them is evaluated
    fewer_classes: float = Field(0.1, ge=0, le=1)  # share of steps whose conditions show only some of the classes
    condition_noise: float = Field(0.3, ge=0)  # noise on the data set embedding, in its standard deviations
    anchor_every: int = Field(4, ge=1)  # every so many steps, the losses of real checkpoints are added
    learning_rate: float = Field(2e-3, gt=0)


class DescribeConfig(Strict):
    """The stage `descriptions`: descriptions of data sets are mapped to the embeddings of their images."""

    steps: int = Field(2000, ge=0)
    learning_rate: float = Field(2e-3, gt=0)


class RestoreConfig(Strict):
    """The stage `restoring`: low-rank residuals, which bring decoded checkpoints closer to the originals."""

    rank: int = Field(16, ge=0)  # rank of the residual: numbers that a stored code has in addition to its latent
    steps: int = Field(4000, ge=0)
    networks: int = Field(6, ge=1)  # checkpoints that are restored and evaluated in a step
    images: int = Field(64, ge=8)  # images on which each of them is evaluated
    learning_rate: float = Field(1e-3, gt=0)
    reconstruction: float = Field(0.5, ge=0)  # weight of the mean squared error of normalised weights
    distil: float = Field(2.0, ge=0)  # weight of the divergence from the original's outputs
    labels: float = Field(1.0, ge=0)  # weight of the cross-entropy on the task's labels


class GeneratorConfig(Strict):
    """All settings of a generator; the `generator:` section of a spec."""

    vae: VAEConfig = VAEConfig()
    encoders: EncoderConfig = EncoderConfig()
    prior: PriorConfig = PriorConfig()
    tune: TuneConfig = TuneConfig()
    describe: DescribeConfig = DescribeConfig()
    restore: RestoreConfig = RestoreConfig()
    seed: int = 0
    # Augmentation of the images on which networks are evaluated in training.
    augment: Literal["none", "flip-crop"] = "none"
    accumulate: int = Field(1, ge=1)  # micro-batches in a step, of the sizes above; they are divided among workers
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one
    # Matrix products; auto: bfloat16 on GPUs that support it.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Format of the bases in the generator's folder; int8 suits large networks.
    storage: Literal["half", "int8"] = "half"
    memory: float = Field(4.0, ge=0)  # GB of weights that are kept in memory; a larger zoo is read from files
    save_every: float = Field(60.0, ge=0)  # seconds between savings, which is what an interruption costs at most
    # Threads of torch in training; None: torch's choice. The order of sums, and so the last digits, depend on it.
    threads: int | None = Field(None, ge=1)
