#!/usr/bin/env python3
"""Writes tests/data/text/chat.json, what Transformers' apply_chat_template makes of conversations:

    python tools/make_chat_references.py tests/data

The templates are written here. Each uses what one family of published templates uses: the ways of Llama 2 and 3,
Mistral, ChatML, Qwen 3, Gemma and Zephyr to go through the messages, and one of everything else. With a folder of
other templates (*.jinja) as second argument it prints the same about those, for comparing by hand."""

import json
import pathlib
import sys

from transformers import AutoTokenizer

TEMPLATES = {
    "chatml": (
        "{% for message in messages %}"
        "{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set said = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set said = false %}{% endif %}"
        "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('user and assistant have to take turns') }}{% endif %}"
        "{% if loop.index0 == 0 and said != false %}{% set text = '<<SYS>>\\n' + said + '\\n<</SYS>>\\n\\n' + m['content'] %}"
        "{% else %}{% set text = m['content'] %}{% endif %}"
        "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
        " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "mistral": (
        "{%- if messages[0]['role'] == 'system' %}\n    {%- set before = messages[0]['content'] %}\n"
        "    {%- set turns = messages[1:] %}\n{%- else %}\n    {%- set turns = messages %}\n{%- endif %}\n"
        "{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n"
        "{%- set asked = turns | selectattr('role', 'equalto', 'user') | list %}\n"
        "{%- set ns = namespace(index=0) %}\n"
        "{%- for turn in turns %}\n    {%- if not (turn.role == 'tool' or (turn.tool_calls is defined and turn.tool_calls)) %}\n"
        "        {%- if (turn['role'] == 'user') != (ns.index % 2 == 0) %}\n"
        "            {{- raise_exception('After the system message, turns alternate') }}\n        {%- endif %}\n"
        "        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n"
        "{{- bos_token }}\n{%- for turn in turns %}\n    {%- if turn['role'] == 'user' %}\n"
        "        {%- if loop.last and before is defined %}\n            {{- '[INST] ' + before + '\\n\\n' + turn['content'] + '[/INST]' }}\n"
        "        {%- else %}\n            {{- '[INST] ' + turn['content'] + '[/INST]' }}\n        {%- endif %}\n"
        "    {%- elif turn['role'] == 'assistant' %}\n        {{- ' ' + turn['content'] + eos_token }}\n    {%- endif %}\n"
        "{%- endfor %}\n{%- if (asked | length) > 9 %}{{- 'many' }}{%- endif %}\n"
    ),
    "qwen3": (
        "{%- if tools %}\n    {{- 'tools' }}\n{%- elif messages[0].role == 'system' %}\n"
        "    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n{%- endif %}\n"
        "{%- set ns = namespace(searching=true, last=messages|length - 1) %}\n"
        "{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n"
        "    {%- if ns.searching and message.role == \"user\" and message.content is string and not"
        "(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}\n"
        "        {%- set ns.searching = false %}\n        {%- set ns.last = index %}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- for message in messages %}\n    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}\n"
        "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
        "    {%- elif message.role == 'assistant' %}\n        {%- set content = message.content %}\n        {%- set thought = '' %}\n"
        "        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}\n"
        "            {%- set thought = message.reasoning_content %}\n        {%- elif '</think>' in message.content %}\n"
        "            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}\n"
        "            {%- set thought = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n"
        "        {%- endif %}\n        {%- if loop.index0 > ns.last and (loop.last or thought) %}\n"
        "            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}\n"
        "        {%- else %}\n            {{- '<|im_start|>' + message.role + '\\n' + content }}\n        {%- endif %}\n"
        "        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
        "    {%- endif %}\n{%- endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('turns') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
    ),
    "everything": (
        "{#- a comment -#}\n{%- macro line(name, text='-') -%}\n  {{ name | upper }}: {{ text }}\n{% endmacro -%}\n"
        "{%- set kinds = {'user': 'U', 'assistant': 'A', \"system\": 'S'} -%}\n"
        "{% for m in messages if m.role != 'system' %}\n    {{- line(kinds[m.role], m.content | replace('\\n', ' ')) -}}\n"
        "    {% if not loop.last %}{{ loop.index ~ '/' ~ loop.length }}{% else %}.{% endif %}\n{%- else -%}\n  nobody\n{%- endfor %}\n"
        "{{ messages | map(attribute='role') | join(', ') }} {{ messages[-1]['content'] | tojson }} {{ messages[0].content | length }}"
        " {{ missing | default('none given') }} {{ 'yes' if 'user' in kinds else 'no' }} {{ ([1, 2] + [3]) | length }} {{ 7 % 4 }}"
        "{%- for key, value in kinds.items() %} {{ key }}={{ value }}{% endfor %}"
        "{% if messages[0] is mapping and messages is iterable and messages is not string %} ok{% endif %}"
        "{%- set joined %}{{ bos_token }}|{{ eos_token }}{% endset %} {{ joined }}{{ ' end' | trim }}"
        "{%- for x in range(2, 7, 2) %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% endfor %}"
    ),
}

CONVERSATIONS = [
    [("user", "Hello, who are you?")],
    [("system", "Answer briefly."), ("user", "  What is a bank?\n")],
    [("user", "One"), ("assistant", "Two."), ("user", "Three \u20ac \U0001f427")],
    [("system", "S"), ("user", "a"), ("assistant", "<think>\nhm\n</think>\n\nb"), ("user", "c"), ("assistant", "d")],
    [("user", "one"), ("user", "two")],
    [("user", ""), ("assistant", ""), ("user", "\"quoted\" \\ back\tslash </p> & 'so'")],
]


def render(tokenizer, template: str) -> list:
    results = []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        for generation in (False, True):
            try:
                text = tokenizer.apply_chat_template(
                    messages, chat_template=template, tokenize=False, add_generation_prompt=generation
                )
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                results.append({"text": text, "ids": ids})
            except Exception as error:  # what templates raise has many types
                results.append({"error": str(error)})
    return results


def main() -> None:
    data = pathlib.Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(data / "text/small/llama2", bos_token="<s>", eos_token="</s>")
    templates = TEMPLATES
    if len(sys.argv) > 2:
        templates = {path.stem: path.read_text() for path in sorted(pathlib.Path(sys.argv[2]).glob("*.jinja"))}
    result = {
        "conversations": [[{"role": r, "content": c} for r, c in one] for one in CONVERSATIONS],
        "templates": {name: {"source": source, "rendered": render(tokenizer, source)} for name, source in templates.items()},
    }
    text = json.dumps(result, indent=1) + "\n"
    if len(sys.argv) > 2:
        print(text)
    else:
        (data / "text/chat.json").write_text(text)


if __name__ == "__main__":
    main()
