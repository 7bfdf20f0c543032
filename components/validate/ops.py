"""Which ops a served model may hold. Pure.

An allow-list: the stateless ops of the pinned tensorflow (``stateless_ops.txt``), minus those that reach out of the
model all the same, plus the stateful ones whose state is the model's own. Having state says
nothing about danger: ReadFile and DatasetFromGraph are stateless, a variable is stateful.
"""

import re
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("stateless_ops.txt")

SAVER_READS = frozenset({"RestoreV2", "Restore", "RestoreSlice"})
"""Allowed where the saver restores variables, and where a server never goes."""
SAVER_WRITES = frozenset({"SaveV2", "Save", "SaveSlices", "MergeV2Checkpoints"})
"""Allowed where a server never goes: every model that can be saved has them."""
TABLE_FILES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
"""Allowed if the file is one of the model's assets."""

_REASONS = {
    "OP_PYTHON": ("(Eager)?PyFunc(Stateless)?",),
    "OP_FILE_WRITE": (
        "WriteFile|Save(V2|Slices)?|MergeV2Checkpoints|DistributedSave|SaveDataset.*|.*DatasetToTFRecord|DumpTensor",
        "Write.*Summary|Create(File|Db|Summary).*|(Close|Flush)?SummaryWriter|ImportEvent|StatsAggregator.*",
        "Snapshot.*Dataset.*|CacheDataset(V2)?",
    ),
    "OP_FILE_READ": (
        "ReadFile|.*MatchingFiles.*|Restore(V2|Slice)?|DTensorRestoreV2|InitializeTableFromTextFile(V2)?",
        "(TFRecord|TextLine|FixedLengthRecord|.*CSV|.*LMDB|.*Sql|Load|ListSnapshotChunks)Dataset.*",
        ".*Reader(V2)?|Reader(Read|ReadUpTo|Reset|RestoreState|SerializeState|Num).*|RecordInput",
        "GenerateVocabRemapping|LoadAndRemapMatrix|ImmutableConst|FileSystemSetConfiguration",
        "FixedUnigramCandidateSampler",  # its vocabulary is an attribute with any path
    ),
    "OP_NETWORK": (
        "Rpc.*|DeleteRpc.*|.*DataService.*|RegisterDataset(V2)?|_?(Host)?(Send|Recv)|Collective.*|_?Nccl.*|RemoteCall",
        "WorkerHeartbeat|.*(Infeed|Outfeed).*|.*TPU.*|.*Tpu.*|_?Xla(Send|Recv|Host).*",
    ),
    "OP_NESTED_GRAPH": ("DatasetFromGraph|DatasetToGraph(V2)?|XlaCallModule|XlaCustomCall(V2)?",),
    "OP_DEBUG_EXFIL": ("Debug.*|Copy|CopyHost",),
}
_PATTERNS = {reason: re.compile("|".join(patterns)) for reason, patterns in _REASONS.items()}

_REFUSED_STATELESS = re.compile(
    "|".join(pattern.pattern for pattern in _PATTERNS.values()) + "|Abort|HostConst|.*SleepDataset|Test.*|Namespace>.*"
)

_ALLOWED_STATEFUL = re.compile(
    # variables, those of TF1 included, and what training does to them: a TF1 export keeps its training ops
    r"VarHandleOp|ReadVariableOp|Assign(Add|Sub)?VariableOp|Assign(Add|Sub)?|VarIsInitializedOp|VariableShape"
    r"|Variable(V2)?|TemporaryVariable|DestroyResourceOp|DisableCopyOnRead|Resource(Sparse)?Apply.*|(Sparse)?Apply.*"
    r"|Resource(Gather|GatherNd|Scatter.*|StridedSliceAssign|CountUpTo)|_?VarHandlesOp|_ReadVariablesOp"
    # calls and control flow
    r"|StatefulPartitionedCall|_?While|_?If|Case|_Arg|_Retval|Assert|GuaranteeConst|CheckNumerics(V2)?|Print|DeviceIndex"
    # tables
    r"|(Anonymous)?(Mutable(Dense)?)?HashTable(OfTensors)?(V2)?|InitializeTableV2"
    r"|LookupTable(Find|Insert|Size|Export|Import|Remove)V2"
    # arrays and stacks of loops
    r"|TensorArray.*|Stack(V2|PushV2|PopV2|CloseV2)?|Empty"
    # random numbers
    r"|Random(Uniform|UniformInt|StandardNormal|Shuffle|Gamma|Poisson|PoissonV2|Crop)|TruncatedNormal|Multinomial"
    r"|ParameterizedTruncatedNormal|StatefulTruncatedNormal|StatefulRandomBinomial"
    r"|Stateful(Uniform|UniformInt|UniformFullInt|StandardNormal|StandardNormalV2)|Rng(Skip|ReadAndSkip)|StatelessRandomGetAlg|NonDeterministicInts|SampleDistortedBoundingBox(V2)?"
    r"|(All|Learned|Log|ThreadUnsafe)?(Unigram|Uniform)?CandidateSampler"
    # recurrent kernels, boosted trees
    r"|CudnnRNN.*|BoostedTrees.*|IsBoostedTrees.*"
    # sets of rows held within one model
    r"|TensorSliceDataset|TensorDataset|RangeDataset|ReduceDataset|DatasetToSingleElement|InitializeTableFromDataset"
)


@cache
def stateless() -> frozenset[str]:
    """Return the names of the ops without state."""
    return frozenset(_FILE.read_text().split())


@cache
def judge(op: str) -> str:
    """Return the reason code for which an op is refused; empty for one that is allowed.

    The ops of savers and table files depend on where they stand, and are refused here.
    """
    if op in stateless():
        return _reason(op) if _REFUSED_STATELESS.fullmatch(op) else ""
    return "" if _ALLOWED_STATEFUL.fullmatch(op) else _reason(op)


def _reason(op: str) -> str:
    return next((reason for reason, pattern in _PATTERNS.items() if pattern.fullmatch(op)), "OP_UNKNOWN")


def is_stateful(op: str) -> bool:
    """Return whether the pinned tensorflow does not list an op among those without state."""
    return op not in stateless()
