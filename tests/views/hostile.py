"""Texts that try to make a terminal do something: one of every class that ECMA-48, xterm and Unicode know."""

from __future__ import annotations

import dataclasses

import fakes

from plt_tui.protocol.events import Alert, Checkpoint, CheckpointFailed, Event, Logs, Sample, Spike

TEXTS = {
    "CSI: clear, home, colours, blink": "a\x1b[2J\x1b[H\x1b[5;31;44mb\x1b[0m",
    "CSI: report, resize, scroll region": "a\x1b[6n\x1b[c\x1b[8;10;10t\x1b[2;5rb",
    "modes: mouse, paste, alternate screen": "a\x1b[?1000h\x1b[?1003h\x1b[?2004l\x1b[?1049l\x1b[?25h\x1b[?2026hb",
    "kitty keyboard, cursor shape, insert": "a\x1b[>31u\x1b[6 q\x1b[4h\x1b[20hb",
    "OSC 0 and 2: titles": "a\x1b]0;owned\x07\x1b]2;owned\x1b\\b",
    "OSC 8: link": "a\x1b]8;;https://example.org\x1b\\click\x1b]8;;\x1b\\b",
    "OSC 9, 777: notification": "a\x1b]9;owned\x07\x1b]777;notify;a;b\x07b",
    "OSC 52: clipboard": "a\x1b]52;c;cm0gLXJm\x07b",
    "OSC 10, 11, 4: colours, questions": "a\x1b]11;?\x07\x1b]4;1;#ff0000\x07\x1b]10;#000000\x07b",
    "OSC 1337, 133: files, prompts": "a\x1b]1337;File=inline=1:AAAA\x07\x1b]133;A\x07b",
    "DCS: sixel, settings, tmux": "a\x1bP0;1q#0;2;0;0;0~\x1b\\\x1bP$qm\x1b\\\x1bPtmux;\x1b\x1b]0;x\x07\x1b\\b",
    "APC, PM, SOS": "a\x1b_Gf=100;AAAA\x1b\\\x1b^secret\x1b\\\x1bXtext\x1b\\b",
    "resets, charsets, shifts": "a\x1bc\x1b(0\x1b)0\x0e\x0f\x1bN\x1bO\x1b#8\x1b7\x1b8b",
    "C1 as one character": "a\x9b2J\x9d0;owned\x9c\x90q\x9c\x9f\x9e\x98\x85\x84b",
    "C0: back, feed, bell, tab, null, delete": "a\x08\x08\x0c\x0b\x07\x00\x7f\x05\x1bb",
    "carriage return and newlines": "a\rover\r\nERROR forged\nb",
    "bidi overrides and isolates": "a\u202egnp.exe\u202c\u2066x\u2069\u200f\u061cb",
    "zero width and invisible": "a\u200b\u200d\u2060\ufeff\u00ad\u180e\U000e0041b",
    "separators and private use": "a\u2028b\u2029c\ue000\U000f0000d",
    "lone surrogates and what is no character": "a\udc1b\ud800\ufffe\uffffb",
    "a stack of marks": "a" + "\u0301\u0489\u20dd" * 100 + "b",
    "wide, joined and long": "漢字😀👨\u200d👩\u200d👧" * 20 + "x" * 5000,
    "markup": "[bold red]x[/] [link=https://example.org]y[/link] [@click=app.quit]z[/] $accent {x} %s",
}
"""By what they try. Every one ends visibly, so that what it did is seen."""
MAX_PROMPT_CHARS = 160
"""1000 are taken as a prompt, and escaped a character becomes up to six."""


def harmless() -> list[str]:
    """As many texts, each other than the one before, that try nothing."""
    return [f"a plain text, number {number} b" for number in range(len(TEXTS))]


def story(texts: list[str]) -> list[Event]:
    """A run in which every text that anybody chose is one of `texts`, and which goes on."""
    events = [*fakes.hostile(" ".join(texts)[:MAX_PROMPT_CHARS]), *fakes.training(60)]
    for number, text in enumerate(texts):
        at = fakes.at(60) + number
        events += fakes.command(f"n{number}", "note", {"text": text}, 60, reason=text, actor=text)
        events += [
            Logs(lines=[[at, text, level, text] for level in ("INFO", "ERROR")]),
            Sample(time=at, step=60 + number, prompt=text, text=text),
            Checkpoint(time=at, step=60, path=text, name=text),
            CheckpointFailed(time=at, step=60, reason=text),
        ]
    return [*events, *fakes.machine(60)]


def news(texts: list[str]) -> list[Event]:
    """What happens while somebody looks: alerts and spikes, which toasts and notifications tell."""
    alerts = [Alert(time=fakes.at(61), topic=f"disk {text}", text=text, level="error") for text in texts]
    spikes = [Spike(time=fakes.at(61), step=60, what="loss", value=9.0, z=9.0, act="warn", reason=text) for text in texts]
    refused = fakes.replace_status(
        fakes.command("r", "set", {"name": "prompt", "value": texts[0]}, 60)[0], "refused", texts[-1]
    )
    return [*alerts, *spikes, dataclasses.replace(refused, actor=texts[0])]
