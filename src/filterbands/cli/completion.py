"""Scripts that complete the words of a command line: verbs, flags and the values that are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from .known import known

_SHELLS = ("bash", "zsh", "fish")
_FIRST = ("--help", "--version", "--completion", "--traceback")


@dataclass(frozen=True, slots=True)
class _Word:
    """An option of a verb."""

    flag: str
    """Empty for a positional."""
    takes_value: bool
    values: tuple[str, ...]


def script(words: Sequence[str], verbs: Mapping[str, str]) -> str:
    """Return the script for the shell that is named; it needs no call of this program later.

    Raises:
        ValueError: No shell, or an unknown one.
    """
    if len(words) != 1 or words[0] not in _SHELLS:
        raise ValueError(
            f"--completion needs one of {', '.join(_SHELLS)}, got {' '.join(words) or 'nothing'}"
        )
    found = {verb: list(_words(verb)) for verb in verbs}
    if words[0] == "fish":
        return _fish(found, verbs)
    # The function of bash serves both.
    loading = "autoload -U +X compinit bashcompinit && compinit -u && bashcompinit\n"
    return (loading if words[0] == "zsh" else "") + _bash(found)


def _words(verb: str) -> Iterator[_Word]:
    options = get_type_hints(import_module(f".{verb}", __package__).run)["options"]
    for name, positional, takes_value in _fields(options):
        flag = "" if positional else f"--{name.replace('_', '-')}"
        yield _Word(flag, takes_value, known(verb, name))
    yield _Word("--help", False, ())


def _fields(options: type[Any]) -> Iterator[tuple[str, bool, bool]]:
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        hint = hints[field.name]
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if is_dataclass(kind):
            yield from _fields(kind)  # type: ignore[arg-type]
        else:
            yield field.name, tyro.conf.Positional in marks, kind is not bool


def _bash(found: Mapping[str, Sequence[_Word]]) -> str:
    cases = ['    "--completion --completion") words="bash zsh fish" ;;']
    behind = []
    for verb, words in found.items():
        for word in words:
            if word.flag and word.values:
                cases.append(f'    "{verb} {word.flag}") words="{" ".join(word.values)}" ;;')
        free = [
            f'"{verb} {word.flag}"' for word in words if word.flag and word.takes_value and not word.values
        ]
        cases.append(f"    {' | '.join(free)}) ;;" if free else "")
        flags = " ".join(word.flag for word in words if word.flag)
        values = " ".join(value for word in words if not word.flag for value in word.values)
        behind.append(f'      {verb}) flags="{flags}" values="{values}" ;;')
    return f"""\
_filterbands() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="${{COMP_WORDS[1]}}"
  local words="" flags="" values="" head=""
  # bash makes words of their own of = and : (--kinds=fog, folder:here); zsh keeps them in the word.
  case "$word" in
    =|:) before="$word"; word="" ;;
    --*=*) before="${{word%%=*}}"; head="$before="; word="${{word#*=}}" ;;
  esac
  if [ "$before" = "=" ]; then
    before="${{COMP_WORDS[COMP_CWORD-1]}}"
    if [ "$before" = "=" ]; then before="${{COMP_WORDS[COMP_CWORD-2]}}"; fi
  fi
  case "$verb $before" in
    *" :") ;;
{chr(10).join(filter(None, cases))}
    *)
      case "$verb" in
{chr(10).join(behind)}
      esac
      case "$word" in
        -*) words="$flags" ;;
        *) words="$values" ;;
      esac
      if [ "$COMP_CWORD" -eq 1 ]; then words="{" ".join((*found, *_FIRST))}"; fi ;;
  esac
  case "$word" in *,*) head="$head${{word%,*}}," ;; esac
  COMPREPLY=( $(compgen -W "$words" -P "$head" -- "${{word##*,}}") )
}}
complete -o default -F _filterbands filterbands"""


def _fish(found: Mapping[str, Sequence[_Word]], verbs: Mapping[str, str]) -> str:
    start = "complete -c filterbands -n __fish_use_subcommand"
    lines = [f"{start} -f -a {verb} -d {what!r}" for verb, what in verbs.items()]
    lines += [f"{start} -f -l {flag[2:]}" for flag in _FIRST if flag != "--completion"]
    lines.append(f"{start} -x -l completion -a 'bash zsh fish'")
    for verb, words in found.items():
        start = f"complete -c filterbands -n '__fish_seen_subcommand_from {verb}'"
        for word in words:
            values = f" -f -a '{' '.join(word.values)}'" if word.values else ""
            needs = " -r" if word.takes_value and word.flag else ""
            flag = f" -l {word.flag[2:]}" if word.flag else ""
            if flag or values:
                lines.append(f"{start}{flag}{needs}{values}")
    return "\n".join(lines)
