"""Every field with the paper's value, its meaning and its unit. The other files override it."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """LTS on RefCOCO as in Section 4.1 of the paper."""
    config = ConfigDict()
    config.seed = 0  # of the parameters and of the order of sentences

    config.data = data = ConfigDict()
    data.dataset = "refcoco_unc"  # a config of tfds_refcoco
    data.dir = "data"  # folder that holds the built sets
    data.raw = ""  # raw folder to build from where the set is not built yet; "" builds nothing
    data.train_split = "train"  # "a+b" joins splits
    data.train_images = ""  # file of image ids, one a line: train on these alone; "" for all
    data.resize = "letterbox"  # or "squash": how an image becomes a square
    data.image_size = 416  # pixels, a multiple of 32
    data.max_words = 15  # longer sentences are cut
    data.min_count = 1  # rarer training words are unknown
    data.hide_sentence = False  # control: feed every word as the unknown word
    data.threads = 8  # that read and decode

    config.model = model = ConfigDict()
    model.embed_dim = 300  # size of a word vector
    model.word_vectors = ""  # GloVe's .txt, .zip or .npz of embed_dim numbers a word; "": random
    model.gru_features = 512  # per direction
    model.backbone_width = 32  # channels of Darknet53's first convolution
    model.backbone_stages = (1, 2, 8, 8, 4)  # residual blocks per stage
    model.backbone_weights = ""  # file of a pretrained Darknet53; "": random
    model.neck = True  # YOLOv3's six extra convolutions on the stride-32 tap
    model.fuse = True  # False: F_m1 without the sentence, which then acts in the locator alone
    model.fused_features = 1024  # channels of F_m1..F_m3, d_k of the filter
    model.locate = "filter"  # or "word_filter", "transformer", "none": how the heatmap is made
    model.rounds = 1  # of the locator, n of Table 5
    model.segment = True  # False: the heatmap is the mask
    model.segmenter_features = 256  # channels of each ASPP branch
    model.segmenter_rates = (6, 12, 18)  # dilations of ASPP
    model.prior = "probability"  # or "logits": how segmenter and next round see the heatmap
    model.dtype = "float32"  # or "bfloat16": of the computation; parameters stay float32

    config.train = train = ConfigDict()
    train.batch_size = 18  # sentences, over all devices
    train.sentences_per_image = 1  # k: a batch is batch_size / k images, for k sentences each
    train.accumulate = 1  # parts that a batch is taken in, one after another: less memory
    train.remat = False  # compute activations again in the backward pass: less memory, slower
    train.shard_params = 1  # devices that share one copy of parameters and optimizer state
    train.epochs = 45.0  # may be a fraction
    train.epoch_unit = "sentences"  # or "refs": one random sentence of each object, as MCN does
    train.learning_rate = 1e-3  # Adam's
    train.drop_epochs = (30.0,)  # the learning rate is multiplied by drop_factor at these epochs
    train.drop_factor = 0.1  # see drop_epochs
    train.location_weight = 0.1  # lambda of Eq. 13
    train.log_every = 50  # steps
    train.start_from = ""  # workdir of a run that gives the first weights; "": none
    train.freeze = "none"  # or "backbone": its parameters and its statistics stand still

    train.lr_multipliers = part = ConfigDict()  # times learning_rate; 0 leaves a part as it is
    part.backbone = 1.0  # Darknet53 with its neck
    part.words = 1.0  # the word vectors
    part.text = 1.0  # the GRU
    part.fusion = 1.0  # Eq. 5 to 7
    part.locator = 1.0  # every round
    part.segmenter = 1.0  # or, without one, the 1×1 convolution in its place

    config.checkpoint = checkpoint = ConfigDict()
    checkpoint.every_minutes = 10.0  # save at least so often; 0: only at evaluations

    config.eval = evaluation = ConfigDict()
    evaluation.splits = ("val", "testA", "testB")  # of the final evaluation
    evaluation.best_split = "val"  # chooses the best checkpoint, by oIoU
    evaluation.every_epochs = 1.0  # evaluate best_split and save; may be a fraction
    evaluation.batch_size = 32  # sentences on each device, of images up to 640 × 640
    evaluation.threshold = 0.25  # a pixel is foreground above this probability
    evaluation.gallery = 16  # sentences drawn per split
    return config
