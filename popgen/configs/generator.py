"""The generator's settings: the `generator:` section of a spec, and part of config.json of a saved generator."""

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
    linear: bool = True  # offset + basis x latent for each trained architecture, beside the position decoder
    offset: Literal["mean", "checkpoint"] = (
        "mean"  # where the linear path starts: checkpoints of independent runs have a mean that
    )
    # is no network; then it starts at the one with the lowest loss on training images
    token_width: int = Field(64, ge=4)  # weights in a token
    width: int = Field(96, ge=16)  # of the transformer
    heads: int = Field(4, ge=1)
    decoder_layers: int = Field(1, ge=1)
    steps: int = Field(8000, ge=1)
    batch: int = Field(16, ge=2)  # networks a step, all of one architecture
    learning_rate: float = Field(2e-3, gt=0)
    reconstruction: float = Field(1.0, ge=0)  # weight of the mean squared error of normalised weights
    behaviour: float = Field(1.0, ge=0)  # weight of the decoded networks' cross-entropy on their task's images
    behaviour_networks: int = Field(6, ge=1)  # decoded networks scored a step
    behaviour_images: int = Field(64, ge=8)  # images for each of them
    kl: float = Field(
        0.01, ge=0
    )  # .001 leaves gaps between the codes: midpoints lost .3 (cnn-s) and .8 (resnet-s) points
    mixup: float = Field(0.5, ge=0, le=1)  # share of inputs that are averages of two checkpoints of one data set
    input_noise: float = Field(0.3, ge=0)  # added to normalised weights before they are encoded
    gate: float = Field(
        0.02, gt=0
    )  # accuracy that reconstruction may cost on held-out lineages before the prior is trained


class EncoderConfig(Strict):
    """Which encoders read the conditions, and how the data set encoder is trained."""

    images: str = "clip-tiny"  # an open_clip model: built-in stand-in, MODEL/PRETRAINED, hf-hub:, local-dir:
    text: str = "text-tiny"  # a sentence-transformers model: built-in stand-in, hub name, or folder
    labels: bool = True  # False: the condition is a set of images, whose classes nobody need know
    images_per_class: int = Field(5, ge=1)  # in a draw; without labels, of all images
    pool: int | None = Field(
        None, ge=1
    )  # images that training reads of each class, without labels of all; null: every one
    width: int = Field(96, ge=16)
    heads: int = Field(4, ge=1)
    out: int = Field(64, ge=4)  # width of the data set embedding
    steps: int = Field(1500, ge=1)
    batch: int = Field(24, ge=2)  # data sets a step
    learning_rate: float = Field(1e-3, gt=0)
    temperature: float = Field(0.1, gt=0)  # of the contrastive loss, at the start
    regression: float = Field(1.0, ge=0)  # weight of predicting the latents linearly, beside the contrastive loss


# Without a sampler a flow takes euler and a DDPM ddim; without a prior the one that training chose samples.
DEFAULT_SAMPLING = Sampling(steps=4, guidance=1.0, strength=1.0)


class PriorConfig(Strict):
    """The latent prior: a predicted mean, and flow matching or the DDPM of the original method around it.

    `ridge` and `kde` are its cheap rivals (popgen.generator.model.closed_form_priors); `auto` trains a flow, and takes one of them where it does
    better on held-out lineages.
    """

    kind: Literal["auto", "flow", "ddpm", "ridge", "kde"] = "auto"
    width: int = Field(96, ge=16)
    heads: int = Field(4, ge=1)
    layers: int = Field(3, ge=1)
    steps: int = Field(2000, ge=1)
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    drop_condition: float = Field(0.1, ge=0, lt=1)  # share of examples without one of the conditions, for guidance
    use_data: bool = True  # False: the data set is not looked at; for ablations
    use_arch: bool = True
    ema: float = Field(0.999, ge=0, lt=1)
    sampling: Sampling = Sampling()  # what a sampling uses where it says nothing; see DEFAULT_SAMPLING
    temperature: float = Field(
        0.3, ge=0
    )  # of what is sampled around the mean: 1 is the codes' own spread, 0 the mean alone

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, content: Any) -> Any:
        """Fill in what `sampling` leaves open."""
        given = content.get("sampling") or {} if isinstance(content, dict) else None
        if not isinstance(given, (dict, Sampling)):
            return content  # refused when the fields are checked
        own = given if isinstance(given, Sampling) else Sampling.model_validate(given)
        return {**content, "sampling": own.over(DEFAULT_SAMPLING)}


class TuneConfig(Strict):
    """The last stage: encoder, prior and decoder together, on what networks generated from conditions do."""

    steps: int = Field(4000, ge=0)
    tasks: list[Annotated[DataGrid, BeforeValidator(lambda v: {"source": v} if isinstance(v, str) else v)]] = []
    # data sets without checkpoints that this stage learns from, too
    networks: int = Field(16, ge=2)  # generated and scored a step, each for a data set of its own
    images: int = Field(48, ge=8)  # on which each of them is scored
    fewer_classes: float = Field(0.1, ge=0, le=1)  # share of conditions that show some of the classes only
    condition_noise: float = Field(0.3, ge=0)  # of the data set embedding, in its standard deviations
    anchor_every: int = Field(4, ge=1)  # steps between those that hold the zoo's codes in place
    learning_rate: float = Field(2e-3, gt=0)


class DescribeConfig(Strict):
    """After all else: descriptions of data sets are mapped to the embeddings of their images."""

    steps: int = Field(2000, ge=0)
    learning_rate: float = Field(2e-3, gt=0)


class RestoreConfig(Strict):
    """The last stage: components of what decoding loses, so that stored checkpoints are given back whole."""

    rank: int = Field(16, ge=0)  # numbers that a stored code has besides its latent
    steps: int = Field(4000, ge=0)
    networks: int = Field(6, ge=1)  # checkpoints restored and scored a step
    images: int = Field(64, ge=8)
    learning_rate: float = Field(1e-3, gt=0)
    reconstruction: float = Field(0.5, ge=0)  # weight of the mean squared error of normalised weights
    distil: float = Field(2.0, ge=0)  # weight of the divergence from the original's outputs
    labels: float = Field(1.0, ge=0)  # weight of the cross-entropy on the task's labels


class GeneratorConfig(Strict):
    """All of it; the `generator:` section of a spec."""

    vae: VAEConfig = VAEConfig()
    encoders: EncoderConfig = EncoderConfig()
    prior: PriorConfig = PriorConfig()
    tune: TuneConfig = TuneConfig()
    describe: DescribeConfig = DescribeConfig()
    restore: RestoreConfig = RestoreConfig()
    seed: int = 0
    augment: Literal["none", "flip-crop"] = "none"  # of the images that networks are trained on
    accumulate: int = Field(1, ge=1)  # parts of a step, each with batches of the sizes above; workers share them out
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU where there is one
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of products; auto: bfloat16 on GPUs that have it
    storage: Literal["half", "int8"] = "half"  # of the bases in the generator's folder; int8 for large networks
    memory: float = Field(4.0, ge=0)  # GB of weights that are kept; those of a larger zoo are read when they are needed
    save_every: float = Field(60.0, ge=0)  # seconds of training that an interruption may cost
    threads: int | None = Field(
        None, ge=1
    )  # of torch in training; None: torch's own choice. Sums, so results, depend on it
