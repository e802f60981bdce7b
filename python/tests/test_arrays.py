"""Single matrices as arrays."""

from __future__ import annotations

import numpy
import pytest

import knapsaq

RANDOM = numpy.random.default_rng(0)
WEIGHTS = RANDOM.standard_normal((32, 256)).astype(numpy.float32)


@pytest.mark.parametrize("scheme", ["hqq:b4g64", "rtn:b2g32", "hqq:b3g128", "rtn:b8row", "hqq:b4g64/m8g128"])
def test_affine_arrays_make_the_matrix(scheme):
    found = knapsaq.quantize_array(WEIGHTS, scheme)
    group = WEIGHTS.shape[1] // found.scales.shape[1]
    made = numpy.repeat(found.scales, group, axis=1) * found.codes + numpy.repeat(found.biases, group, axis=1)
    numpy.testing.assert_array_equal(made, found.dequantized)
    assert found.error == pytest.approx(numpy.linalg.norm(WEIGHTS - found.dequantized), rel=1e-5)
    assert found.blocks is None
    assert found.codes.max() < 2 ** int(scheme.split(":b")[1][0])


@pytest.mark.parametrize("scheme, bits", [("q4_k", 4.5), ("q8_0", 8.5)])
def test_ggml_blocks(scheme, bits):
    found = knapsaq.quantize_array(WEIGHTS, scheme)
    assert found.bits == bits
    assert found.blocks.size == found.bytes
    assert found.codes is None


def test_nf4():
    found = knapsaq.quantize_array(WEIGHTS, "nf4")
    blocks = found.codes.reshape(-1, 64)
    assert found.scales.shape == (len(blocks),)
    # The largest weight of a block is plus or minus its absmax.
    largest = numpy.abs(found.dequantized.reshape(-1, 64)).max(axis=1)
    numpy.testing.assert_allclose(largest, found.scales, rtol=1e-6)


def test_inputs_make_gptq_better_where_it_counts():
    inputs = RANDOM.standard_normal((512, 256)) * numpy.linspace(0.1, 3, 256)

    def damage(found):
        return numpy.linalg.norm(inputs @ (WEIGHTS - found.dequantized).T)

    assert damage(knapsaq.quantize_array(WEIGHTS, "gptq:b3g64", inputs=inputs)) < 0.9 * damage(
        knapsaq.quantize_array(WEIGHTS, "rtn:b3g64")
    )
    with pytest.raises(knapsaq.UsageError):
        knapsaq.quantize_array(WEIGHTS, "gptq:b3g64")
    with pytest.raises(knapsaq.UsageError, match="inputs"):
        knapsaq.quantize_array(WEIGHTS, "gptq:b3g64", inputs=inputs[:, 1:])


def test_other_layouts_and_types():
    expected = knapsaq.quantize_array(WEIGHTS, "hqq:b4g64").codes
    for same in (numpy.asfortranarray(WEIGHTS), WEIGHTS.astype(numpy.float64), WEIGHTS.tolist()):
        numpy.testing.assert_array_equal(knapsaq.quantize_array(same, "hqq:b4g64").codes, expected)


def test_wrong_arrays():
    with pytest.raises(knapsaq.UsageError):
        knapsaq.quantize_array(WEIGHTS[0], "hqq:b4g64")
    with pytest.raises(knapsaq.UsageError):
        knapsaq.quantize_array(WEIGHTS, "hqq:b7g64")
    broken = WEIGHTS.copy()
    broken[3, 5] = numpy.nan
    with pytest.raises(knapsaq.InputError):
        knapsaq.quantize_array(broken, "hqq:b4g64")


def test_tables_of_others(tmp_path):
    (tmp_path / "bad.csv").write_text("layer,module\n0,x\n")
    with pytest.raises(knapsaq.InputError, match="bad.csv"):
        knapsaq.read_table(tmp_path / "bad.csv")
