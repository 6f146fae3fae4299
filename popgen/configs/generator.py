"""The generator's settings: the `generator:` section of a spec, and part of config.json of a saved generator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from popgen.configs.load import Strict, load, parse
from popgen.configs.sampling import Sampling
from popgen.configs.spec import DataGrid, SpecFile


class VAEConfig(Strict):
    """Sizes, losses and training of the VAE; a latent has latent_tokens x latent_width numbers for any architecture."""

    latent_tokens: int = Field(4, ge=1)
    latent_width: int = Field(8, ge=1)
    # Each trained architecture gets a linear path, offset + basis x latent, which is added to the position decoder.
    linear: bool = True
    # Initial offset of the linear path: the mean of the checkpoints, or the checkpoint with the lowest loss on training
    # images. The latter is for checkpoints of independent runs, whose mean is not a working network.
    offset: Literal["mean", "checkpoint"] = "mean"
    token_width: int = Field(64, ge=4)  # weights in a token
    width: int = Field(96, ge=16)  # width of the transformers
    heads: int = Field(4, ge=1)
    decoder_layers: int = Field(1, ge=1)
    steps: int = Field(
        5000, ge=0
    )  # 0: no VAE, prior and conditions of checkpoints, but directions alone (see EpisodesConfig)
    batch: int = Field(16, ge=2)  # networks in each step, all of one architecture
    learning_rate: float = Field(2e-3, gt=0)
    reconstruction: float = Field(1.0, ge=0)  # weight of the mean squared error of normalised weights
    behaviour: float = Field(1.0, ge=0)  # weight of the decoded networks' cross-entropy on their task's images
    behaviour_networks: int = Field(6, ge=1)  # decoded networks that are scored in each step
    behaviour_images: int = Field(64, ge=8)  # images on which each of them is scored
    # Weight of the KL divergence. With .001 there were gaps between the codes: networks decoded from midpoints of two
    # codes lost .3 (cnn-s) and .8 (resnet-s) points.
    kl: float = Field(0.01, ge=0)
    mixup: float = Field(0.5, ge=0, le=1)  # share of inputs that are averages of two checkpoints of one data set
    input_noise: float = Field(0.3, ge=0)  # standard deviation of the noise added to normalised weights before encoding
    # Largest loss of accuracy by reconstruction on held-out lineages with which training goes on to the prior; for a perplexity
    # the nats by which each token costs more.
    gate: float = Field(0.02, gt=0)


class EncoderConfig(Strict):
    """Encoders of the conditions, and the training of the data set encoder."""

    images: str = "clip-tiny"  # an open_clip model: the built-in stand-in, MODEL/PRETRAINED, hf-hub: or local-dir:
    text: str = "text-tiny"  # a sentence-transformers model: the built-in stand-in, a hub name or a folder
    labels: bool = True  # whether images are grouped by class; if not, a condition is one set of unlabelled images
    images_per_class: int = Field(5, ge=1)  # images of each class in a condition; without labels, images in total
    # Images of each class (without labels: in total) from which training draws conditions; null takes all.
    pool: int | None = Field(None, ge=1)
    width: int = Field(96, ge=16)
    heads: int = Field(4, ge=1)
    out: int = Field(64, ge=4)  # width of the data set embedding
    steps: int = Field(1000, ge=1)
    batch: int = Field(24, ge=2)  # data sets in each step
    learning_rate: float = Field(1e-3, gt=0)
    temperature: float = Field(0.1, gt=0)  # initial temperature of the contrastive loss
    regression: float = Field(1.0, ge=0)  # weight of the linear prediction of latents; the contrastive loss has 1


# If no sampler is given, a flow is sampled with euler and a DDPM with ddim. If no prior is given, the one that training
# chose is used.
DEFAULT_SAMPLING = Sampling(steps=4, guidance=1.0, strength=1.0)


class PriorConfig(Strict):
    """The latent prior: a predicted mean, and flow matching or the DDPM of the original method around it.

    `ridge` and `kde` are priors in closed form (popgen.generator.model.closed_form_priors). `auto` trains a flow,
    and uses a closed form instead if that does better on held-out lineages.
    """

    kind: Literal["auto", "flow", "ddpm", "ridge", "kde"] = "auto"
    width: int = Field(96, ge=16)
    heads: int = Field(4, ge=1)
    layers: int = Field(3, ge=1)
    steps: int = Field(1000, ge=1)
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    drop_condition: float = Field(0.1, ge=0, lt=1)  # probability of hiding each condition of an example, for guidance
    use_data: bool = True  # whether the prior is conditioned on the data set; false for ablations
    use_arch: bool = True  # whether the prior is conditioned on the architecture; false for ablations
    ema: float = Field(0.999, ge=0, lt=1)  # decay of the moving average of weights
    sampling: Sampling = Sampling()  # defaults for settings that a call does not give; completed by DEFAULT_SAMPLING
    # Scale of the samples around the predicted mean: 1 has the spread of the zoo's codes, 0 gives the mean itself.
    temperature: float = Field(0.3, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _complete_sampling(cls, content: Any) -> Any:
        """Fill in the settings that `sampling` does not give from DEFAULT_SAMPLING."""
        given = content.get("sampling") or {} if isinstance(content, dict) else None
        if not isinstance(given, (dict, Sampling)):
            return content  # Pydantic refuses it when it checks the fields.
        own = given if isinstance(given, Sampling) else Sampling.model_validate(given)
        return {**content, "sampling": own.over(DEFAULT_SAMPLING)}


class TuneConfig(Strict):
    """Stage 4: data set encoder, prior and decoder are trained together on the behaviour of generated networks."""

    steps: int = Field(4000, ge=0)
    # Data sets without checkpoints, on which this stage trains in addition to those of the zoo.
    tasks: list[Annotated[DataGrid, BeforeValidator(lambda v: {"source": v} if isinstance(v, str) else v)]] = []
    networks: int = Field(16, ge=2)  # networks generated and scored in each step, each for a data set drawn at random
    images: int = Field(48, ge=8)  # images on which each of them is scored
    # Weight of the loss of episodes, where half of the images fit a head and the others judge it; for networks whose head is made of
    # phrases for the classes.
    episodes: float = Field(0.0, ge=0)
    fewer_classes: float = Field(0.1, ge=0, le=1)  # probability that the conditions of a step show only some classes
    condition_noise: float = Field(0.3, ge=0)  # noise on the data set embedding, in units of its standard deviation
    anchor_every: int = Field(8, ge=1)  # steps between uses of the losses of VAE and prior, which keep the zoo's codes
    learning_rate: float = Field(2e-3, gt=0)


class DescribeConfig(Strict):
    """Stage 5: descriptions of data sets are mapped to the embeddings of their images; all else is frozen."""

    steps: int = Field(2000, ge=0)
    learning_rate: float = Field(2e-3, gt=0)


class RestoreConfig(Strict):
    """Stage 6: a low-rank residual of the reconstruction is trained, so that stored checkpoints can be restored."""

    rank: int = Field(16, ge=0)  # coefficients of the residual that are stored beside each latent
    steps: int = Field(3000, ge=0)
    networks: int = Field(6, ge=1)  # checkpoints that are restored and scored in each step
    images: int = Field(64, ge=8)  # images on which each of them is scored
    learning_rate: float = Field(3e-4, gt=0)
    reconstruction: float = Field(0.5, ge=0)  # weight of the mean squared error of normalised weights
    distil: float = Field(2.0, ge=0)  # weight of the divergence from the outputs of the original network
    labels: float = Field(1.0, ge=0)  # weight of the cross-entropy on the task's labels


class EpisodesConfig(Strict):
    """Stage 7: directions from each architecture's base, trained on tasks of a few images, whose head is solved in closed form.

    A task, an episode, is drawn from data sets that need no checkpoints: some of their classes, a few images of each to fit the head to
    (support), and others to judge it by (queries). Zoos with one network of each architecture, its base, train this stage alone.
    """

    steps: int = Field(0, ge=0)  # shared by architectures, starts and directions; 0: the generator has no directions
    data: list[str] = []  # data sets that episodes draw from, each with classes of its own
    # Networks that directions start from, by their ids in the zoo. Where none of an architecture is named, it is the zoo's start or else its
    # best network, or, with `starts` above 1, so many networks at most that do best on episodes.
    bases: list[str] = []
    starts: int = Field(1, ge=1)
    directions: int = Field(1, ge=1)  # from each start; each is trained by itself
    ways: int = Field(8, ge=2)  # classes of an episode
    shots: list[Annotated[int, Field(ge=1)]] = Field(
        [5, 10], min_length=1
    )  # support images of each class, drawn for each episode
    images: int = Field(20, ge=2)  # support and query images of each class
    mixed: float = Field(0.3, ge=0, le=1)  # share of episodes whose classes come from two data sets
    # Weights of the loss of queries, and of an ordinary classifier of all classes of all data sets: 0 and 1 are ordinary training.
    queries: float = Field(1.0, ge=0)
    classification: float = Field(0.0, ge=0)
    learning_rate: float = Field(1e-3, gt=0)

    @model_validator(mode="after")
    def _check(self) -> EpisodesConfig:
        if self.steps and not self.data:
            raise ValueError("episodes.steps is above 0, and episodes.data names no data set")
        if max(self.shots) >= self.images:
            raise ValueError(
                f"episodes.images is {self.images}: more than the largest of shots, {max(self.shots)}, are needed"
            )
        return self


class StandInConfig(Strict):
    """Images that stand in for those of data sets which are not at hand; the zoo's networks label them."""

    images: str | None = None  # a data set, whose labels do not matter; null: every data set of the zoo is read
    data: list[str] = []  # the data sets of the zoo without images; none named: all of them


class FlatConfig(Strict):
    """When a stage is cut short: its held-out measure, taken 20 times in a stage on validation images, has become flat.

    The rest of the schedule of the learning rate is then passed `pace` times as fast, in so many fewer steps. Ending at once would
    leave out the low rates at the end of the schedule, where much of what is learned is settled.
    """

    tolerance: float = Field(
        0.001, ge=0
    )  # least gain over the best measure before; less is flat (.001 is .1 points of accuracy)
    patience: int = Field(3, ge=1)  # measures in a row without such a gain
    pace: int = Field(5, ge=2)


class GeneratorConfig(Strict):
    """All settings of a generator; the `generator:` section of a spec."""

    vae: VAEConfig = VAEConfig()
    encoders: EncoderConfig = EncoderConfig()
    prior: PriorConfig = PriorConfig()
    tune: TuneConfig = TuneConfig()
    describe: DescribeConfig = DescribeConfig()
    restore: RestoreConfig = RestoreConfig()
    episodes: EpisodesConfig = EpisodesConfig()
    stand_in: StandInConfig = StandInConfig()
    flat: FlatConfig | None = None  # null: every stage does all its steps
    seed: int = 0
    # Checkpoints ZOO#ID, at most one of each architecture: the zoo's base, fine-tuned to stand many shifts at once. They stand
    # in the space that `popgen adapt` chooses in.
    robust: list[str] = []
    augment: Literal["none", "flip-crop"] = "none"  # augmentation of the images on which networks are scored
    # Parts of each training step, each with batches of the sizes above; workers divide the parts among them.
    accumulate: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto takes a GPU if there is one
    # Precision of matrix products; auto takes bfloat16 on GPUs that support it.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    storage: Literal["half", "int8"] = "half"  # format of the bases in the generator's folder; int8 for large networks
    memory: float = Field(4.0, ge=0)  # GB of weights to keep in memory; a larger zoo is read from its files when needed
    # Seconds between saves of the training state; an interruption loses no more training than that.
    save_every: float = Field(60.0, ge=0)
    # Threads of torch in training; null leaves the choice to torch. Results depend on it through the order of sums.
    threads: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> GeneratorConfig:
        if not self.vae.steps and not self.episodes.steps:
            raise ValueError("vae.steps is 0, and so is episodes.steps: nothing would be trained")
        return self


def read_spec(spec: str, overrides: dict[str, Any] | None = None) -> tuple[SpecFile, GeneratorConfig]:
    """Read and check a spec; returns it with the settings of its generator.

    Raises:
        PopgenError: the file is missing, is not valid YAML, or has an unknown key or a bad value.
    """
    content = load(spec, SpecFile, overrides)
    return content, parse(content.generator or {}, GeneratorConfig, f"{spec}: generator")
