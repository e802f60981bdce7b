#!/usr/bin/env python3
"""Trains a small mixture of experts (Qwen3MoeForCausalLM of Transformers) on a CPU, for tests of quality.

    python3 tools/train_moe.py --text enwiki-2015-train.txt.xz --tokenizer wiki-llama-6m --out moe [--cpu-minutes 120]

Needs torch, transformers, tokenizers, numpy. OUT/state.pt is the state, written every few minutes; the same command
goes on from it after a stop (SIGTERM and SIGINT write it first). OUT/model is the model folder, with the tokenizer's
files, written beside it: the mean of the last weights, which stands in for a decayed learning rate, so that the run may
be stopped at any time. OUT/log has a line every 20 steps. Progress is counted in CPU time, because a shared machine's
clock says little.

The schedule: warmup, a constant learning rate, and linear decay to 0 over the last fifth of --cpu-minutes. For an
earlier end, give fewer --cpu-minutes: what is left is then all decay.

    python3 tools/train_moe.py --out moe --export FOLDER    # the model folder of the last state, in fp16

Losses are of products in bf16 (--fp32: in fp32), in nats a token.
"""
import argparse
import lzma
import os
import random
import shutil
import signal
import time

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

END = "<|endoftext|>"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def config_of(args, vocab):
    return Qwen3MoeConfig(
        vocab_size=vocab, hidden_size=args.hidden, num_hidden_layers=args.layers, num_attention_heads=args.hidden // 32,
        num_key_value_heads=args.hidden // 64, head_dim=32, intermediate_size=2 * args.ffn,
        moe_intermediate_size=args.ffn, num_experts=args.experts, num_experts_per_tok=args.active,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], max_position_embeddings=512,
        tie_word_embeddings=True, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        attention_bias=False, router_aux_loss_coef=0.01, bos_token_id=0, eos_token_id=0, use_cache=True)


class Experts(torch.nn.Module):
    """What Transformers' Experts.forward computes, with tokens sorted by expert: one product of each for a batch."""

    @staticmethod
    def forward(self, hidden, index, weights):
        order = index.reshape(-1).argsort()
        rows = order // index.shape[1]
        counts = index.reshape(-1).bincount(minlength=self.num_experts).tolist()
        parts = []
        for e, x in enumerate(hidden[rows].split(counts)):
            if not len(x):
                continue
            gate, up = F.linear(x, self.gate_up_proj[e]).chunk(2, dim=-1)
            parts.append(F.linear(F.silu(gate) * up, self.down_proj[e]))
        out = torch.cat(parts) * weights.reshape(-1)[order, None]
        return torch.zeros_like(hidden, dtype=out.dtype).index_add(0, rows, out).to(hidden.dtype)


def token_file(args):
    """Token ids of the text as uint16, made once."""
    path = os.path.join(args.out, "train.bin")
    if not os.path.exists(path):
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(os.path.join(args.tokenizer, "tokenizer.json"))
        opened = lzma.open if args.text.endswith(".xz") else open
        with opened(args.text, "rt", encoding="utf-8") as handle:
            documents = handle.read().split(END)
        with open(path + ".part", "wb") as out:
            for first in range(0, len(documents), 64):
                for one in tokenizer.encode_batch(documents[first:first + 64], add_special_tokens=False):
                    out.write(np.array(one.ids + [0], dtype=np.uint16).tobytes())
                if out.tell() > 2 * args.most_tokens:
                    break
        os.rename(path + ".part", path)
    return np.memmap(path, dtype=np.uint16, mode="r")


def windows(tokens, rng, count, length):
    starts = rng.integers(0, len(tokens) - length - 1, size=count)
    block = torch.from_numpy(np.stack([tokens[s:s + length + 1] for s in starts]).astype(np.int64))
    return block[:, :-1], block[:, 1:]


def export(model, weights, folder, tokenizer):
    """A whole folder or none."""
    part = folder + ".part"
    shutil.rmtree(part, ignore_errors=True)
    copy = Qwen3MoeForCausalLM(model.config)
    copy.load_state_dict(weights)
    copy.half().save_pretrained(part)
    for name in TOKENIZER_FILES:
        if os.path.exists(os.path.join(tokenizer, name)):
            shutil.copyfile(os.path.join(tokenizer, name), os.path.join(part, name))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(part, folder)


class Run:
    def __init__(self, args):
        self.args = args
        self.path = os.path.join(args.out, "state.pt")
        state = torch.load(self.path, weights_only=False) if os.path.exists(self.path) else None
        self.tokenizer = args.tokenizer or (state and state["tokenizer"])
        if not self.tokenizer:
            raise SystemExit("give --tokenizer: there is no state in " + args.out)
        self.model = Qwen3MoeForCausalLM(state["config"] if state else config_of(args, args.vocab))
        if args.fast_experts:
            for layer in self.model.model.layers:
                layer.mlp.experts.forward = Experts.forward.__get__(layer.mlp.experts)
        matrices = [p for n, p in self.model.named_parameters() if p.dim() > 1 and "embed" not in n]
        others = [p for n, p in self.model.named_parameters() if p.dim() == 1 or "embed" in n]
        self.optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                            {"params": others, "weight_decay": 0.0}],
                                           lr=args.lr, betas=(0.9, 0.98), fused=True)
        self.rng = np.random.default_rng(args.seed)
        self.step, self.tokens, self.minutes = 0, 0, 0.0
        self.mean = {n: p.detach().clone() for n, p in self.model.state_dict().items()}
        if state:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.rng.bit_generator.state = state["rng"]
            self.mean = state["mean"]
            self.step, self.tokens, self.minutes = state["step"], state["tokens"], state["minutes"]
        self.before, self.decay_from = self.minutes, None

    def save(self):
        torch.save({"config": self.model.config, "model": self.model.state_dict(), "mean": self.mean,
                    "optimizer": self.optimizer.state_dict(), "rng": self.rng.bit_generator.state, "step": self.step,
                    "tokens": self.tokens, "minutes": self.minutes, "tokenizer": self.tokenizer}, self.path + ".part")
        os.rename(self.path + ".part", self.path)
        export(self.model, self.mean, os.path.join(self.args.out, "model"), self.tokenizer)

    def rate(self):
        """Of the peak."""
        begin = max(0.8 * self.args.cpu_minutes, min(self.before, self.args.cpu_minutes))
        left = (self.args.cpu_minutes - self.minutes) / max(self.args.cpu_minutes - begin, 1e-9)
        return min(1.0, (self.step + 1) / self.args.warmup, max(left, 0.0))

    def train(self, tokens):
        args, stop = self.args, []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.append(True))
        log = open(os.path.join(args.out, "log"), "a")
        begun = time.process_time()
        saved, losses = time.time(), []
        while not stop and self.minutes < args.cpu_minutes and not (args.steps and self.step >= args.steps):
            for group in self.optimizer.param_groups:
                group["lr"] = args.lr * self.rate()
            length = args.length if self.step % 10 < 7 else 2 * args.length
            ids, targets = windows(tokens, self.rng, args.batch // length, length)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not args.fp32):
                out = self.model(ids, output_router_logits=True, use_cache=False)
            loss = F.cross_entropy(out.logits.float().flatten(0, 1), targets.flatten())
            (loss + self.model.config.router_aux_loss_coef * out.aux_loss).backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            if torch.isfinite(norm):
                self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            # Over some 1/(1 - share) steps; fewer at the beginning.
            share = min(0.995, 1 - 10 / (self.step + 11))
            with torch.no_grad():
                for name, value in self.model.state_dict().items():
                    self.mean[name].lerp_(value.to(self.mean[name].dtype), 1 - share)
            losses.append(loss.item())
            self.step += 1
            self.tokens += ids.numel()
            self.minutes = self.before + (time.process_time() - begun) / 60
            if self.step % 20 == 0:
                log.write("step %d tokens %.2fM cpu %.1f min loss %.4f aux %.3f lr %.2e norm %.2f\n" % (
                    self.step, self.tokens / 1e6, self.minutes, np.mean(losses), out.aux_loss.item(),
                    args.lr * self.rate(), norm))
                log.flush()
                losses = []
            if time.time() - saved > 60 * args.save_minutes:
                self.save()
                saved = time.time()
        self.save()
        log.write("stopped at step %d\n" % self.step)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--text", help="text file, documents apart by %s; .xz is read too" % END)
    add("--tokenizer", help="folder with tokenizer.json")
    add("--out", required=True, help="folder for state, log and model")
    add("--export", help="only write the model of the last state to this folder")
    add("--layers", type=int, default=6)
    add("--hidden", type=int, default=256)
    add("--experts", type=int, default=8)
    add("--active", type=int, default=2)
    add("--ffn", type=int, default=256, help="of an expert; a multiple of 256 suits GGUF's K-quants")
    add("--vocab", type=int, default=4096)
    add("--most-tokens", type=int, default=20_000_000, help="of the text, from its beginning: more than a run sees")
    add("--batch", type=int, default=4096, help="tokens of a step")
    add("--length", type=int, default=256, help="of a window; in 3 of 10 steps twice as long")
    add("--lr", type=float, default=2e-3)
    add("--warmup", type=int, default=100, help="steps")
    add("--cpu-minutes", type=float, default=120)
    add("--steps", type=int, default=0, help="stop here at the latest")
    add("--save-minutes", type=float, default=5)
    add("--threads", type=int, default=2)
    add("--fp32", action="store_true")
    add("--transformers-experts", dest="fast_experts", action="store_false", help="its loop over experts")
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    run = Run(args)
    if args.export:
        export(run.model, run.mean, args.export, run.tokenizer)
        return
    run.train(token_file(args))


if __name__ == "__main__":
    main()
