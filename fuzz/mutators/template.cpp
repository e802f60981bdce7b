// A Jinja template out of the pieces that templates consist of, and messages behind it.

#include <algorithm>
#include <array>

#include "mutators/mutate.h"

std::string mutated(std::string_view input, std::size_t most, fuzz::Random& random) {
  constexpr std::array<std::string_view, 48> kPieces = {
      "{% for m in messages %}",
      "{% for a, b in {'x': 1}.items() recursive %}",
      "{% endfor %}",
      "{% if m.role == 'user' %}",
      "{% elif loop.last %}",
      "{% else %}",
      "{% endif %}",
      "{% set x = 1 %}",
      "{%- set ns = namespace(a=[]) -%}",
      "{% set ns.a = ns.a + [m] %}",
      "{% macro f(a, b='c') %}",
      "{% endmacro %}",
      "{% call f(1) %}",
      "{% filter upper %}",
      "{% generation %}",
      "{% break %}",
      "{% raw %}",
      "{{ f(1) }}",
      "{{ m['content'] }}",
      "{{ m.content | trim }}",
      "{{ messages | length }}",
      "{{ messages[1:] | list }}",
      "{{ messages[::-1] }}",
      "{{ messages[0]['role'] }}",
      "{{ bos_token }}",
      "{{ x | tojson(indent=2) }}",
      "{{ 'a,b'.split(',') | join('-') }}",
      "{{ [1, 2.5, none, true] | map('string') | first }}",
      "{{ messages | selectattr('role', 'equalto', 'user') | list | last }}",
      "{{ range(3) | sum }}",
      "{{ 'a' ~ 1 }}",
      "{{ 'x' if x is defined and not x in [1] else 'y' }}",
      "{{ '%s' % 3 }}",
      "{{ x // 0 }}",
      "{{ -9223372036854775807 - 9 }}",
      "{{ 'abc'[5] }}",
      "{{ {'a': {'b': 1}}.a.b }}",
      "{{ m.content.replace('a', 'b').upper().strip()[:2] }}",
      "{{ raise_exception('no') }}",
      "{{ strftime_now('%Y') }}",
      "{# c #}",
      "\\u00e9\\x",
      " is string",
      " | default('d', true)",
      " | ",
      ".x",
      "(",
      "']"};
  const std::size_t end = std::min(input.find('\0'), input.size());
  std::string source(input.substr(0, end));
  std::string messages(input.substr(end));
  do {
    const std::size_t at = fuzz::below(random, source.size() + 1);
    switch (fuzz::below(random, 8)) {
      case 0:
      case 1:
      case 2:
        source.insert(at, fuzz::any_of(random, kPieces));
        break;
      case 3:
        source.erase(at, fuzz::below(random, 30));
        break;
      case 4:
        source.insert(at, source.substr(fuzz::below(random, source.size() + 1), fuzz::below(random, 40)));
        break;
      case 5:
        messages = fuzz::mutate_bytes(messages, messages.size() + 20);
        break;
      default:
        source = fuzz::mutate_bytes(source, source.size() + 20);
    }
  } while (source.size() < most && fuzz::once_in(random, 2));
  return source + messages;
}
