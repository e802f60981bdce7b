"""Looks at single matrices: what each scheme does to random weights, and which of a model's suffer most."""

import numpy

import knapsaq


def main(rows=256, cols=512, folder="."):
    weights = numpy.random.default_rng(0).standard_normal((rows, cols)).astype(numpy.float32)
    inputs = numpy.random.default_rng(1).standard_normal((2 * cols, cols)) * numpy.linspace(0.1, 3, cols)
    print(f"{'scheme':<14} {'bits':>6} {'weights':>9} {'outputs':>9}   relative errors")
    for scheme in ("rtn:b3g64", "hqq:b3g64", "hqq-diag:b3g64", "gptq:b3g64", "q3_k", "nf4"):
        made = knapsaq.quantize_array(weights, scheme, inputs=inputs)
        difference = weights - made.dequantized
        in_weights = numpy.linalg.norm(difference) / numpy.linalg.norm(weights)
        in_outputs = numpy.linalg.norm(inputs @ difference.T) / numpy.linalg.norm(inputs @ weights.T)
        print(f"{scheme:<14} {made.bits:6.3f} {in_weights:9.4f} {in_outputs:9.4f}")

    table = knapsaq.tables(knapsaq.example_model(), output=f"{folder}/table.csv", menu="b2g64,b3g64,b4g64").read()
    worst = table.relative[:, 0].argsort()[::-1][:5]
    print("\nmatrices with the largest relative error at 2 bits:")
    for index in worst:
        print(f"  {table.matrices[index]:<36} {table.relative[index, 0]:.4f}")


if __name__ == "__main__":
    main()
