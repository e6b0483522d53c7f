"""All config fields with the paper's values, their meanings and units. Other configs override them.

A field's default, meaning, accepted values and scope (`lts_jax.configs.fields.Scope`, `RUN` by
default) are defined only here, or in `beyond.py` for features that are not in the paper.
"""

from ml_collections import ConfigDict

from lts_jax.configs.beyond import BEYOND
from lts_jax.configs.fields import (
    BLOCKS,
    INCREASING,
    PROBABILITY,
    RATES,
    SEED,
    SPLITS,
    WEIGHTS,
    Field,
    Scope,
    make_config,
    multiple_of,
    one_of,
    up_to,
    zero_to,
)

BACKBONES = (
    "darknet53",
    "efficientnet_lite0",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "swin_tiny",
    "swin_tiny_window12",
    "swin_base",
    "swin_base_window12",
    "resnet50",
    "resnet50_dilated",
    "resnet101",
    "resnet101_dilated",
)
"""The names in `lts_jax.models.backbones`, which this package must not import."""

NETWORK, RESUME, MACHINE = Scope.NETWORK, Scope.RESUME, Scope.MACHINE

FIELDS = {
    "seed": Field(0, "seed of the parameters and of the sentence order", (SEED,)),
    # ---- data: the sentences and their preprocessing
    "data.dataset": Field("refcoco_unc", "a dataset of tfds_refcoco; a+b trains on both a and b"),
    "data.mix": Field(
        (), "sampling weight of each dataset of a+b; (): by number of sentences", (WEIGHTS,)
    ),
    "data.allow_leaks": Field(False, "also train on images that another dataset of a+b holds out"),
    "data.dir": Field("data", "directory of the built datasets", scope=MACHINE),
    "data.raw": Field("", "raw directory to build missing datasets from; '': none", scope=MACHINE),
    "data.train_split": Field("train", "split to train on; a+b joins two splits"),
    "data.train_images": Field("", "file of image ids to train on, one per line; '': all images"),
    "data.resize": Field(
        "letterbox", "how images are resized to a square", one_of("letterbox", "squash"), NETWORK
    ),
    "data.image_size": Field(
        416, "side of the square input in pixels", (*up_to(8192), multiple_of(32)), NETWORK
    ),
    "data.max_words": Field(15, "maximum sentence length; the rest is cut", up_to(1000), NETWORK),
    "data.min_count": Field(1, "training words that are rarer are unknown", up_to(1_000_000)),
    "data.vector_words": Field(
        0,
        "number of first words of the model.word_vectors file to add to the vocabulary; useful "
        "with train.lr_multipliers.words=0",
        zero_to(1_000_000),
    ),
    "data.hide_sentence": Field(
        False, "language-blind baseline: replace every word by the unknown word", scope=NETWORK
    ),
    "data.threads": Field(8, "number of threads that load images", up_to(1024), MACHINE),
    # ---- model: the network
    "model.network": Field(
        "lts", "network: the paper's LTS, or CMPC (Table 3)", one_of("lts", "cmpc"), NETWORK
    ),
    "model.text": Field(
        "gru",
        "sentence encoder: the paper's bidirectional GRU, CMPC's LSTM, or BERT",
        one_of("gru", "lstm", "bert"),
        NETWORK,
    ),
    "model.text_weights": Field(
        "",
        "pretrained BERT: directory with weights, config.json and vocab.txt, or "
        "hf://owner/name[@revision]; '': random initialization",
    ),
    "model.embed_dim": Field(300, "size of the word vectors", up_to(65_536), NETWORK),
    "model.word_vectors": Field(
        "", "GloVe .txt, .zip or .npz file with vectors of size embed_dim; '': random"
    ),
    "model.gru_features": Field(
        512, "units of the GRU per direction, or of the LSTM", up_to(65_536), NETWORK
    ),
    "model.bert_hidden": Field(768, "BERT's hidden size", up_to(65_536), NETWORK),
    "model.bert_layers": Field(12, "number of BERT's layers", up_to(1000), NETWORK),
    "model.bert_heads": Field(
        12, "number of BERT's attention heads; must divide bert_hidden", up_to(65_536), NETWORK
    ),
    "model.bert_intermediate": Field(3072, "size of BERT's MLPs", up_to(1_000_000), NETWORK),
    "model.bert_positions": Field(
        512, "number of BERT's position embeddings", up_to(1_000_000), NETWORK
    ),
    "model.backbone": Field("darknet53", "image encoder", one_of(*BACKBONES), NETWORK),
    "model.backbone_width": Field(
        0,
        "channels of the backbone's first stage (Darknet53, ResNet, EfficientNet: of the first "
        "convolution); 0: the published value",
        zero_to(4096),
        NETWORK,
    ),
    "model.backbone_stages": Field(
        (), "blocks per stage of the backbone; (): the published values", (BLOCKS,), NETWORK
    ),
    "model.backbone_conventions": Field(
        "darknet",
        "LeakyReLU slope, BatchNorm epsilon and image normalization of Darknet53's weights",
        one_of("darknet", "ultralytics_2020", "timm"),
        NETWORK,
    ),
    "model.backbone_weights": Field(
        "", "file with a pretrained backbone, or hf://owner/name[@revision]; '': random"
    ),
    "model.neck": Field(
        True, "Darknet53: add YOLOv3's six convolutions to the stride-32 features", scope=NETWORK
    ),
    "model.fuse": Field(
        True, "False: F_m1 ignores the sentence; only the locator sees it", scope=NETWORK
    ),
    "model.fused_features": Field(
        1024,
        "channels of F_m1 to F_m3 (d_k of the filter), or of CMPC's fused features",
        up_to(65_536),
        NETWORK,
    ),
    "model.level_features": Field(
        1000, "CMPC: channels of the image features and graph nodes", up_to(65_536), NETWORK
    ),
    "model.exchange_rounds": Field(
        3, "CMPC: rounds of feature exchange between the levels", up_to(100), NETWORK
    ),
    "model.coordinates": Field(
        False, "add each cell's x and y coordinates as input channels of the fusion", scope=NETWORK
    ),
    "model.locate": Field(
        "filter",
        "method that predicts the heatmap; none: no locator",
        one_of("filter", "word_filter", "transformer", "none"),
        NETWORK,
    ),
    "model.rounds": Field(1, "rounds of the locator (n of Table 5)", up_to(100), NETWORK),
    "model.segment": Field(True, "False: use the heatmap as the mask", scope=NETWORK),
    "model.segmenter_features": Field(256, "channels of each ASPP branch", up_to(65_536), NETWORK),
    "model.segmenter_rates": Field((6, 12, 18), "dilation rates of ASPP", (RATES,), NETWORK),
    "model.prior": Field(
        "probability",
        "form of the heatmap that the segmenter and the next locator round receive",
        one_of("probability", "logits"),
        NETWORK,
    ),
    "model.drop_path": Field(
        0.0, "stochastic depth rate of the backbone's last block", (PROBABILITY,)
    ),
    "model.dropout": Field(0.0, "dropout rate of BERT in training", (PROBABILITY,)),
    "model.dtype": Field(
        "float32",
        "dtype of the computation; parameters stay float32",
        one_of("float32", "bfloat16"),
    ),
    # ---- train
    "train.batch_size": Field(18, "sentences per batch, over all devices", up_to(1_000_000)),
    "train.sentences_per_image": Field(
        1, "k: a batch has batch_size / k images with k sentences each", up_to(1000)
    ),
    "train.accumulate": Field(
        1, "microbatches per batch, run sequentially to save memory", up_to(1_000_000)
    ),
    "train.remat": Field(
        False, "recompute activations in the backward pass: less memory, slower", scope=RESUME
    ),
    "train.shard_params": Field(
        1,
        "devices to shard parameters and optimizer state over",
        up_to(1_000_000),
        RESUME,
    ),
    "train.epochs": Field(45.0, "number of epochs; may be a fraction", up_to(100_000), RESUME),
    "train.epoch_unit": Field(
        "sentences",
        "an epoch visits every sentence, or one random sentence per object (as in MCN)",
        one_of("sentences", "refs"),
    ),
    "train.learning_rate": Field(1e-3, "Adam's initial learning rate", up_to(1000)),
    "train.weight_decay": Field(
        0.0,
        "decoupled weight decay as in AdamW; not applied to biases and norms",
        zero_to(1000),
    ),
    "train.clip_norm": Field(
        0.0, "maximum global norm of the gradients; 0: no clipping", zero_to(1_000_000)
    ),
    "train.warmup_epochs": Field(
        0.0, "epochs of linear learning rate warm-up; may be a fraction", zero_to(100_000)
    ),
    "train.decay_power": Field(
        0.0,
        "multiply the learning rate by (1 - step / last step) to this power; 0: no decay",
        zero_to(100),
    ),
    "train.ema": Field(
        0.0,
        "decay of the moving average of the weights that is evaluated and exported; 0: none",
        (PROBABILITY,),
    ),
    "train.drop_epochs": Field(
        (30.0,), "epochs at which the learning rate is multiplied by drop_factor", (INCREASING,)
    ),
    "train.drop_factor": Field(0.1, "learning rate factor at drop_epochs", up_to(1000)),
    "train.location_weight": Field(0.1, "weight of L_loc, lambda of Eq. 13", zero_to(1_000_000)),
    "train.dice_weight": Field(
        0.0,
        "weight of additional Dice losses of the mask and the heatmap, which emphasize small "
        "objects",
        zero_to(1_000_000),
    ),
    "train.noise_words": Field(
        0,
        "maximum number of random vocabulary words to insert into a training sentence, each with "
        "probability 0.5",
        zero_to(10),
    ),
    "train.log_every": Field(50, "steps between log entries", up_to(1_000_000_000), RESUME),
    "train.start_from": Field("", "workdir of a run to initialize the weights from; '': none"),
    "train.freeze": Field(
        "none",
        "parts whose parameters and BatchNorm statistics are frozen",
        one_of("none", "backbone", "text", "backbone+text"),
    ),
    "train.cache_features": Field(
        "none",
        "compute the features of a frozen backbone once per image and store them in this dtype in "
        "<data.dir>/features; float32 gives identical results",
        one_of("none", "float32", "float16"),
    ),
    # Learning rate multipliers of the network's parts; 0 freezes a part's parameters.
    "train.lr_multipliers.backbone": Field(
        1.0, "the image encoder, including its neck", zero_to(1_000_000)
    ),
    "train.lr_multipliers.words": Field(
        1.0, "the word vectors, or BERT's word piece embeddings", zero_to(1_000_000)
    ),
    "train.lr_multipliers.text": Field(1.0, "the GRU, LSTM or BERT", zero_to(1_000_000)),
    "train.lr_multipliers.fusion": Field(
        1.0, "the fusion (Eq. 5 to 7) and model.attention_layers", zero_to(1_000_000)
    ),
    "train.lr_multipliers.locator": Field(1.0, "all rounds of the locator", zero_to(1_000_000)),
    "train.lr_multipliers.segmenter": Field(
        1.0,
        "the segmenter and model.refine's head, or the 1×1 convolution that replaces them",
        zero_to(1_000_000),
    ),
    # ---- checkpoint
    "checkpoint.every_minutes": Field(
        10.0, "maximum time between checkpoints; 0: only at evaluations", zero_to(1_000_000), RESUME
    ),
    # ---- eval
    "eval.splits": Field(("val", "testA", "testB"), "splits to evaluate last", (SPLITS,), RESUME),
    "eval.best_split": Field(
        "val", "split whose oIoU selects the best checkpoint; a,b: mean of two splits"
    ),
    "eval.every_epochs": Field(
        1.0,
        "epochs between evaluations of best_split, each with a checkpoint; may be a fraction",
        up_to(100_000),
    ),
    "eval.batch_size": Field(
        32, "sentences per device, for images up to 640 × 640", up_to(1_000_000), RESUME
    ),
    "eval.threshold": Field(
        0.25,
        "probability above which a pixel is foreground; val: the threshold with the best oIoU on "
        "eval.best_split, stored in the checkpoint",
        (PROBABILITY,),
        words=("val",),
    ),
    "eval.gallery": Field(16, "sentences per split to show in reports", zero_to(1000), RESUME),
    **BEYOND,
}


def get_config() -> ConfigDict:
    """Returns the config of LTS on RefCOCO, as in Section 4.1 of the paper."""
    return make_config(FIELDS)
