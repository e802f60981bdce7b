#!/usr/bin/env python3
"""Rotary frequencies and attention factors of Transformers, for every rule and several lengths of text.

Usage: tools/make_rotation_references.py > tests/data/model/rotation.json
"""

import json

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

PAIRS = 8  # of a head whose 16 numbers are all rotated
FACTORS = [1 + 0.25 * i for i in range(PAIRS)]
LONG_FACTORS = [1 + 1.5 * i * i for i in range(PAIRS)]

# Parameters by the names of config.json; the lengths of text, where the rule looks at them.
CASES = {
    "linear": ({"rope_type": "linear", "factor": 4.0}, [0]),
    "llama3": ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256}, [0]),
    "yarn": ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}, [0]),
    "yarn, wide": ({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                    "original_max_position_embeddings": 4096, "rope_theta": 150000.0}, [0]),
    "yarn, one limit": ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 4.0, "beta_slow": 4.0,
                         "truncate": False, "original_max_position_embeddings": 256}, [0]),
    "yarn, both weights": ({"rope_type": "yarn", "factor": 16.0, "mscale": 1.0, "mscale_all_dim": 0.5,
                            "original_max_position_embeddings": 128}, [0]),
    "yarn, given": ({"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5, "beta_fast": 16.0,
                     "original_max_position_embeddings": 256}, [0]),
    "dynamic": ({"rope_type": "dynamic", "factor": 3.0}, [1, 512, 513, 700, 2048]),
    "longrope": ({"rope_type": "longrope", "short_factor": FACTORS, "long_factor": LONG_FACTORS,
                  "original_max_position_embeddings": 256}, [1, 256, 257, 512]),
    "longrope, given": ({"rope_type": "longrope", "short_factor": FACTORS, "long_factor": LONG_FACTORS,
                         "factor": 32.0, "attention_factor": 1.25,
                         "original_max_position_embeddings": 256}, [256, 257]),
    "longrope, factor": ({"rope_type": "longrope", "short_factor": FACTORS, "long_factor": LONG_FACTORS,
                          "factor": 32.0, "original_max_position_embeddings": 256}, [257]),
    "proportional": ({"rope_type": "proportional", "partial_rotary_factor": 0.3, "factor": 2.0}, [0]),
    "proportional, all": ({"rope_type": "proportional"}, [0]),
}


def main():
    cases = []
    for name, (parameters, texts) in CASES.items():
        parameters = {"rope_theta": 10000.0} | parameters
        config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=512,
                             rope_parameters=parameters)
        for text in texts:
            frequencies, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=text or None)
            cases.append({"name": name, "parameters": parameters, "text": text,
                          "frequencies": frequencies.tolist(), "attention_factor": float(factor)})
    made_by = f"tools/make_rotation_references.py, transformers {transformers.__version__}, torch {torch.__version__}"
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    print(f'{{"made_by": "{made_by}", "rotated": {2 * PAIRS}, "max_positions": 512, "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
