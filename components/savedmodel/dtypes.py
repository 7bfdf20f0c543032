"""TensorFlow's names of its data types, by the numbers in its messages (tensorflow/core/framework/types.proto)."""

_REFERENCE = 100  # added to the number where a TF1 variable hands out a reference

_NAMES = {
    0: "invalid",
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}


def dtype_name(number: int) -> str:
    """Return the lower-case name of a ``DataType`` number: ``float32`` for 1, ``string`` for 7.

    A reference type has the suffix ``_ref``; a number that no release has used is its own name.
    """
    if _REFERENCE < number < 2 * _REFERENCE and number - _REFERENCE in _NAMES:
        return f"{_NAMES[number - _REFERENCE]}_ref"
    return _NAMES.get(number, str(number))
