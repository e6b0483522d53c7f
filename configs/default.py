"""Every field with the paper's value, its meaning and its unit. The other files override it.

A field is described here, or in `beyond.py` where the paper has nothing of it, and nowhere else:
its default, its meaning, which values it takes, and where it has to stay the same
(`lts_jax.configs.fields.Scope`; `RUN` if nothing is said).
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
"""As in `lts_jax.models.backbones`, which this room must not import."""

NETWORK, RESUME, MACHINE = Scope.NETWORK, Scope.RESUME, Scope.MACHINE

FIELDS = {
    "seed": Field(0, "of the parameters and of the order of sentences", (SEED,)),
    # ---- data: the sentences, and how they become examples
    "data.dataset": Field("refcoco_unc", "a dataset of tfds_refcoco; a+b trains on several"),
    "data.mix": Field(
        (), "weight of each of several datasets in an epoch; (): by their sentences", (WEIGHTS,)
    ),
    "data.allow_leaks": Field(
        False, "train on pictures, too, that one of several datasets holds out"
    ),
    "data.dir": Field("data", "folder of the built datasets", scope=MACHINE),
    "data.raw": Field("", "raw folder to build a missing dataset from; '': none", scope=MACHINE),
    "data.train_split": Field("train", "split to train on; a+b joins two"),
    "data.train_images": Field("", "file of image ids, one a line, to train on; '': all images"),
    "data.resize": Field(
        "letterbox", "how an image becomes a square", one_of("letterbox", "squash"), NETWORK
    ),
    "data.image_size": Field(
        416, "side of the square input, pixels", (*up_to(8192), multiple_of(32)), NETWORK
    ),
    "data.max_words": Field(15, "longer sentences are cut", up_to(1000), NETWORK),
    "data.min_count": Field(1, "rarer training words are unknown", up_to(1_000_000)),
    "data.vector_words": Field(
        0,
        "known are, too, so many of the first words of model.word_vectors' file; they are of use "
        "with train.lr_multipliers.words=0",
        zero_to(1_000_000),
    ),
    "data.hide_sentence": Field(
        False, "control: replace every word by the unknown word", scope=NETWORK
    ),
    "data.threads": Field(8, "threads that read and decode", up_to(1024), MACHINE),
    # ---- model: the network
    "model.network": Field(
        "lts", "the paper's network, or CMPC of its Table 3", one_of("lts", "cmpc"), NETWORK
    ),
    "model.text": Field(
        "gru",
        "the sentence encoder: the paper's bidirectional GRU, CMPC's LSTM, or BERT",
        one_of("gru", "lstm", "bert"),
        NETWORK,
    ),
    "model.text_weights": Field(
        "",
        "pretrained BERT: folder with weights, config.json and vocab.txt, or "
        "hf://owner/name[@revision]; '': random",
    ),
    "model.embed_dim": Field(300, "size of a word vector", up_to(65_536), NETWORK),
    "model.word_vectors": Field(
        "", "GloVe's .txt, .zip or .npz with embed_dim numbers a word; '': random"
    ),
    "model.gru_features": Field(
        512, "GRU units per direction, or the LSTM's", up_to(65_536), NETWORK
    ),
    "model.bert_hidden": Field(768, "of BERT: channels", up_to(65_536), NETWORK),
    "model.bert_layers": Field(12, "of BERT", up_to(1000), NETWORK),
    "model.bert_heads": Field(
        12, "of BERT's attention; they divide its channels", up_to(65_536), NETWORK
    ),
    "model.bert_intermediate": Field(3072, "channels of BERT's MLPs", up_to(1_000_000), NETWORK),
    "model.bert_positions": Field(
        512, "most word pieces that BERT reads", up_to(1_000_000), NETWORK
    ),
    "model.backbone": Field("darknet53", "the image encoder", one_of(*BACKBONES), NETWORK),
    "model.backbone_width": Field(
        0,
        "channels of the backbone's first stage (Darknet53, ResNet, EfficientNet: of the first "
        "convolution); 0: the published",
        zero_to(4096),
        NETWORK,
    ),
    "model.backbone_stages": Field(
        (), "the backbone's blocks per stage; (): the published", (BLOCKS,), NETWORK
    ),
    "model.backbone_conventions": Field(
        "darknet",
        "slope, epsilon and normalization of the image that Darknet53's weights need",
        one_of("darknet", "ultralytics_2020", "timm"),
        NETWORK,
    ),
    "model.backbone_weights": Field(
        "", "file of a pretrained backbone, or hf://owner/name[@revision]; '': random"
    ),
    "model.neck": Field(
        True, "Darknet53: YOLOv3's six extra convolutions on the stride-32 tap", scope=NETWORK
    ),
    "model.fuse": Field(
        True, "False: F_m1 without the sentence, which acts in the locator alone", scope=NETWORK
    ),
    "model.fused_features": Field(
        1024,
        "channels of F_m1 to F_m3, d_k of the filter; CMPC's fused features",
        up_to(65_536),
        NETWORK,
    ),
    "model.level_features": Field(
        1000, "CMPC: channels of image features and graph nodes", up_to(65_536), NETWORK
    ),
    "model.exchange_rounds": Field(
        3, "CMPC: rounds of exchange between the levels", up_to(100), NETWORK
    ),
    "model.coordinates": Field(
        False, "the fusion sees where in the image a cell is: x and y as channels", scope=NETWORK
    ),
    "model.locate": Field(
        "filter",
        "what makes the heatmap",
        one_of("filter", "word_filter", "transformer", "none"),
        NETWORK,
    ),
    "model.rounds": Field(1, "rounds of the locator, n of Table 5", up_to(100), NETWORK),
    "model.segment": Field(True, "False: the heatmap is the mask", scope=NETWORK),
    "model.segmenter_features": Field(256, "channels of each ASPP branch", up_to(65_536), NETWORK),
    "model.segmenter_rates": Field((6, 12, 18), "dilations of ASPP", (RATES,), NETWORK),
    "model.prior": Field(
        "probability",
        "what the segmenter and the next round see of the heatmap",
        one_of("probability", "logits"),
        NETWORK,
    ),
    "model.drop_path": Field(
        0.0, "stochastic depth: rate of the backbone's last block", (PROBABILITY,)
    ),
    "model.dropout": Field(0.0, "BERT's, in training", (PROBABILITY,)),
    "model.dtype": Field(
        "float32",
        "of the computation; parameters stay float32",
        one_of("float32", "bfloat16"),
    ),
    # ---- train
    "train.batch_size": Field(18, "sentences, over all devices", up_to(1_000_000)),
    "train.sentences_per_image": Field(
        1, "k: a batch has batch_size / k images, with k sentences each", up_to(1000)
    ),
    "train.accumulate": Field(
        1, "microbatches of a batch, one after another: less memory", up_to(1_000_000)
    ),
    "train.remat": Field(
        False, "recompute activations in the backward pass: less memory, slower", scope=RESUME
    ),
    "train.shard_params": Field(
        1, "devices that share one copy of parameters and optimizer state", up_to(1_000_000), RESUME
    ),
    "train.epochs": Field(45.0, "may be a fraction", up_to(100_000), RESUME),
    "train.epoch_unit": Field(
        "sentences",
        "an epoch is every sentence, or one random sentence of each object as in MCN",
        one_of("sentences", "refs"),
    ),
    "train.learning_rate": Field(1e-3, "Adam's", up_to(1000)),
    "train.weight_decay": Field(
        0.0,
        "decoupled, as in AdamW, times the learning rate; biases and norms have none",
        zero_to(1000),
    ),
    "train.clip_norm": Field(
        0.0, "largest norm of all gradients together; 0: not clipped", zero_to(1_000_000)
    ),
    "train.warmup_epochs": Field(
        0.0, "the learning rate increases linearly at first; may be a fraction", zero_to(100_000)
    ),
    "train.decay_power": Field(
        0.0,
        "the learning rate is multiplied by (1 - step / last step) to this power; 0: not",
        zero_to(100),
    ),
    "train.ema": Field(
        0.0,
        "decay of a moving average of the weights, which is evaluated and exported; 0: none",
        (PROBABILITY,),
    ),
    "train.drop_epochs": Field(
        (30.0,), "epochs at which the learning rate is multiplied by drop_factor", (INCREASING,)
    ),
    "train.drop_factor": Field(0.1, "see drop_epochs", up_to(1000)),
    "train.location_weight": Field(0.1, "lambda of Eq. 13", zero_to(1_000_000)),
    "train.dice_weight": Field(
        0.0,
        "of a Dice loss of the mask, and one of the heatmap, beside L_seg and L_loc: small objects "
        "count more",
        zero_to(1_000_000),
    ),
    "train.noise_words": Field(
        0,
        "most random words of the vocabulary that are inserted into a training sentence, each with "
        "a chance of a half",
        zero_to(10),
    ),
    "train.log_every": Field(50, "steps", up_to(1_000_000_000), RESUME),
    "train.start_from": Field("", "workdir of a run that gives the first weights; '': none"),
    "train.freeze": Field(
        "none",
        "parts whose parameters and statistics are frozen",
        one_of("none", "backbone", "text", "backbone+text"),
    ),
    "train.cache_features": Field(
        "none",
        "compute the features of a frozen backbone once for each image, and keep them as this "
        "type in <data.dir>/features; float32 changes no result",
        one_of("none", "float32", "float16"),
    ),
    # Multipliers of the learning rate, by part of the network; 0 leaves a part as it is.
    "train.lr_multipliers.backbone": Field(
        1.0, "the image encoder, with its neck", zero_to(1_000_000)
    ),
    "train.lr_multipliers.words": Field(
        1.0, "the word vectors, or those of BERT's pieces", zero_to(1_000_000)
    ),
    "train.lr_multipliers.text": Field(1.0, "the GRU, or BERT", zero_to(1_000_000)),
    "train.lr_multipliers.fusion": Field(
        1.0, "Eq. 5 to 7, and model.attention_layers", zero_to(1_000_000)
    ),
    "train.lr_multipliers.locator": Field(1.0, "every round", zero_to(1_000_000)),
    "train.lr_multipliers.segmenter": Field(
        1.0,
        "with model.refine's head; or, without one, the 1×1 convolution in its place",
        zero_to(1_000_000),
    ),
    # ---- checkpoint
    "checkpoint.every_minutes": Field(
        10.0, "save at least so often; 0: at evaluations alone", zero_to(1_000_000), RESUME
    ),
    # ---- eval
    "eval.splits": Field(("val", "testA", "testB"), "of the final evaluation", (SPLITS,), RESUME),
    "eval.best_split": Field(
        "val", "chooses the best checkpoint, by oIoU; a,b by the mean of two splits"
    ),
    "eval.every_epochs": Field(
        1.0,
        "between evaluations of best_split, with a checkpoint; may be a fraction",
        up_to(100_000),
    ),
    "eval.batch_size": Field(
        32, "sentences on each device, for images up to 640 × 640", up_to(1_000_000), RESUME
    ),
    "eval.threshold": Field(
        0.25,
        "a pixel is foreground above this probability; val: the one with the best oIoU on "
        "eval.best_split, stored with the checkpoint",
        (PROBABILITY,),
        words=("val",),
    ),
    "eval.gallery": Field(16, "sentences drawn per split", zero_to(1000), RESUME),
    **BEYOND,
}


def get_config() -> ConfigDict:
    """LTS on RefCOCO as in Section 4.1 of the paper."""
    return make_config(FIELDS)
