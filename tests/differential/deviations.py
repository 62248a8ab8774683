"""Where the package differs from the reference on purpose.

Every test that meets such a place takes its reason from here; all else has to agree.
"""

DEVIATIONS = {
    "colour": (
        "sources of BT.709 and BT.2020 keep their matrix in the reference's JPEGs, which mean that "
        "of BT.601; here they are converted, unless colour: as_reference is asked for"
    ),
    "rotation": "the reference takes the short side before it turns a video upright; here after",
    "interpolation": (
        "the reference makes up frames where more a second are asked for than there are; here "
        "frames are only selected"
    ),
    "gap": "the reference fills a jump of time stamps with copies; here each frame comes once",
    "broken video": (
        "the reference leaves an empty folder, or none, and says nothing; here it is a row with a "
        "status and a reason"
    ),
    "extension": (
        "the reference reads .mp4 files of some data sets and .avi files of the others, and passes "
        "over all else; here any usual extension is read"
    ),
    "broken family": (
        "preresnet, resnext and densenet cannot be built through the reference's own entry: wrong "
        "argument names, and the class count given as width factor; here all six families build"
    ),
    "cardinality": (
        "the reference sizes the last layer of a resnext for cardinality 32 only; here the "
        "convolutions before it decide"
    ),
    "short clip": (
        "a densenet of the reference fails on clips that have one frame left before its last "
        "pooling; here nothing is pooled over time there"
    ),
    "shortcut A": "the reference's shortcut A passes no gradient; here it does",
    "last start": (
        "the reference never draws the last start at which a clip still fits; here every start"
    ),
    "one sample": (
        "a single validation clip is a division by zero in the reference; here it lies in the "
        "middle, as a training clip with train_t_crop: center does"
    ),
    "stride": (
        "sample_t_stride is lost in the reference's validation and inference, whose clips are "
        "runs of neighbouring frames; here it holds everywhere"
    ),
    "chroma": (
        "chroma is not interpolated while decoding, for speed; where frames are resized to half "
        "this is below one grey level on average"
    ),
    "few videos": "the reference divides by zero below five videos; here one is enough",
    "one hdf5 frame": (
        "the reference takes a video of a single hdf5 frame, of segment [0, 1], for an empty one; "
        "here it is looped as in a jpg store"
    ),
    "no label": (
        "the reference cannot load testing videos without a label, unless an entry has a "
        "video_path; here it can"
    ),
    "absent folder": (
        "for UCF-101, HMDB-51 and Moments in Time one absent video aborts the reference's "
        "annotation; here it is listed without a segment, as in the reference's Kinetics"
    ),
    "ActivityNet": "the reference's data set of ActivityNet gives no clips, its class lacks a name",
    "last frame": (
        "an ActivityNet segment that ends with its video or later loses the video's last frame in "
        "the reference"
    ),
    "short segment": (
        "the reference leaves ActivityNet segments of fewer than 8 frames out; here they are looped"
    ),
    "large k": (
        "the reference understates top-k where fewer classes than k are stored; here that is "
        "refused"
    ),
    "frozen statistics": (
        "layers that are frozen in fine-tuning go on changing their batch-norm statistics in the "
        "reference; here they keep them, and are computed with them"
    ),
    "late schedule": (
        "the reference saves before the learning rate goes on to the next epoch, so that it trains "
        "one epoch too many at the old rate after each resume; here the missing step is made up for"
    ),
}
