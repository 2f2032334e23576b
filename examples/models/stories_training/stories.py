"""The world of the stories model: the grammar that writes every text it learns from.

A conversation is a list of turns: sums, stories with questions about them,
shapes, small talk. Whatever trains or scores the model takes its texts, and the
right answers, from this file. It needs the standard library and, for the captions
of the picture model, the shapes grammar next door.

Held out from training by hash: a tenth of the pairs of numbers that are added or
subtracted (in both orders), a fifth of the products with two different factors (in
one order), and a tenth of the triples of character, colour and object.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).resolve().parents[1] / "shapes_training"))

from shapes import GRID  # noqa: E402
from shapes import PALETTE as SHAPE_COLOURS  # noqa: E402


def chance_of(*key: object) -> float:
    """A number in [0, 1) that follows from the key alone."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# Sums.

LARGEST, LARGEST_FACTOR = 99, 12
OPERATORS = ("+", "-", "x")


def held_out_sum(a: int, operator: str, b: int) -> bool:
    """Whether training never shows this problem."""
    if operator == "x":
        low, high = sorted((a, b))
        first = chance_of("x order", low, high) < 0.5
        return low != high and (a < b) == first and chance_of("x", low, high) < 0.2
    return chance_of(operator, *sorted((a, b))) < 0.1


@dataclass(frozen=True)
class Sum:
    a: int
    operator: str
    b: int

    @property
    def value(self) -> int:
        return {"+": self.a + self.b, "-": self.a - self.b, "x": self.a * self.b}[self.operator]

    @property
    def text(self) -> str:
        return f"{self.a} {self.operator} {self.b}"

    def steps(self) -> str:
        """Units, then tens, as on paper; empty where there is nothing to break up."""
        if self.operator == "x" or max(self.a, self.b) < 10:
            return ""
        if self.operator == "+":
            units = self.a % 10 + self.b % 10
            tens, carry = self.a // 10 + self.b // 10, units // 10
            added = f"{self.a // 10} + {self.b // 10}{' + 1' * carry} = {tens + carry}"
            return f"{self.a % 10} + {self.b % 10} = {units}, {added}, so "
        high, low = max(self.a, self.b), min(self.a, self.b)
        borrow = high % 10 < low % 10
        units, tens = high % 10 + 10 * borrow, high // 10 - low // 10 - borrow
        taken = f"{high // 10} - {low // 10}{' - 1' * borrow} = {tens}"
        lines = f"{units} - {low % 10} = {units - low % 10}, {taken}, so "
        return lines if self.a >= self.b else f"{lines}{high} - {low} = {high - low} and "

    def answer(self, brief: bool = False) -> str:
        return f"{'' if brief else self.steps()}{self.text} = {self.value}."


ASK_SUM = {
    "+": (
        "What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b} = ?",
        "How much is {a} + {b}?", "Add {a} and {b}.", "{a} + {b}",
    ),
    "-": (
        "What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b} = ?",
        "How much is {a} - {b}?", "Take {b} from {a}.", "{a} - {b}",
    ),
    "x": (
        "What is {a} x {b}?", "What is {a} times {b}?", "{a} x {b} = ?",
        "How much is {a} * {b}?", "Multiply {a} by {b}.", "What is {a} * {b}?",
    ),
}  # fmt: skip

GOODS = ("apples", "nuts", "stones", "coins", "berries", "cards", "eggs", "pears", "stamps", "sweets")


def draw_sum(rng: Random, held_out: bool, operator: str | None = None, whole: bool = False) -> Sum:
    """A problem that training shows, or one that it does not.

    whole: for a word problem, so no negative number and none of one thing.
    """
    while True:
        chosen = operator or rng.choices(OPERATORS, (45, 40, 15))[0]
        largest = LARGEST_FACTOR if chosen == "x" else LARGEST
        a, b = rng.randint(0, largest), rng.randint(0, largest)
        if chosen == "-" and a < b and (whole or rng.random() < 0.7):
            a, b = b, a
        problem = Sum(a, chosen, b)
        if held_out_sum(a, chosen, b) == held_out and not (whole and 1 in (a, b, problem.value)):
            return problem


@dataclass(frozen=True)
class Turn:
    user: str
    assistant: str


def sum_turn(rng: Random, problem: Sum, brief: bool = False) -> Turn:
    question = rng.choice(ASK_SUM[problem.operator]).format(a=problem.a, b=problem.b)
    return Turn(question, problem.answer(brief))


def word_problem(rng: Random, problem: Sum, brief: bool = False) -> Turn:
    name, goods, steps = random_name(rng), rng.choice(GOODS), "" if brief else problem.steps()
    if problem.operator == "+":
        gains = rng.choice(("finds", "gets", "buys"))
        question = f"{name} has {problem.a} {goods} and {gains} {problem.b} more. How many {goods} does {name} have now?"
        return Turn(question, f"{steps}{name} has {problem.value} {goods}.")
    loses = rng.choice(("gives {} away", "loses {}", "sells {}")).format(problem.b)
    question = f"{name} has {problem.a} {goods} and {loses}. How many {goods} are left?"
    return Turn(question, f"{steps}{problem.value} {goods} are left.")


def too_large(rng: Random) -> Turn:
    operator = rng.choice(OPERATORS)
    if operator == "x":
        numbers = [rng.randint(LARGEST_FACTOR + 1, 999), rng.randint(2, 999)]
        answer = "That is too large for me: I know products up to 12 x 12."
    else:
        large = rng.randint(LARGEST + 1, rng.choice((999, 9999)))
        numbers = [large, rng.randint(0, rng.choice((99, 999, 9999)))]
        answer = "That is too large for me: I add and subtract numbers up to 99."
    rng.shuffle(numbers)
    return Turn(rng.choice(ASK_SUM[operator]).format(a=numbers[0], b=numbers[1]), answer)


# Stories.

PRONOUNS = {
    **dict.fromkeys("Mia Anna Lily Zoe Ella Nora Ruby Ida Emma Rosa Clara Lena Maya Tina Sara Jane".split(), "she"),
    **dict.fromkeys("Tom Ben Max Leo Sam Finn Otto Jack Hugo Paul Noah Oscar Adam Luke Milo Theo".split(), "he"),
}
NAMES = tuple(PRONOUNS)

COLOURS = (*SHAPE_COLOURS, "pink", "brown", "grey", "silver", "golden")

USES = {
    "kite": ("let the kite dance in the wind", "flew the kite high into the sky"),
    "ball": ("kicked the ball back and forth", "rolled the ball down the path"),
    "boat": ("let the boat float on the water", "made a sail for the boat"),
    "drum": ("played the drum and sang", "played the drum until it was dark"),
    "hat": ("took turns wearing the hat", "threw the hat into the air"),
    "lamp": ("lit the lamp when it was dark", "carried the lamp through the dark"),
    "box": ("opened the box and laughed", "put small stones into the box"),
    "book": ("read the book from start to end", "looked at every page of the book"),
    "key": ("looked for the door that fits the key", "hung the key on a string"),
    "bell": ("rang the bell three times", "rang the bell and sang"),
    "cup": ("drank cold water from the cup", "filled the cup with berries"),
    "bike": ("rode the bike round and round", "rode the bike down the path"),
    "cart": ("pulled the cart along the path", "filled the cart with leaves"),
    "rope": ("jumped over the rope", "tied the rope to a tree"),
    "basket": ("filled the basket with berries", "carried the basket along the path"),
    "balloon": ("held the balloon by its string", "let the balloon dance in the wind"),
    "shell": ("listened to the sound of the shell", "washed the shell in the water"),
    "blanket": ("sat on the blanket and looked at the sky", "slept on the blanket"),
    "flute": ("played the flute and sang", "played the flute until it was dark"),
    "umbrella": ("stood under the umbrella in the rain", "opened the umbrella and laughed"),
    **dict.fromkeys(
        "bottle button candle chair clock coin crown doll feather flag jacket jar ladder map mirror pencil "
        "pillow plate pot puppet robot ring scarf spoon star stone sword violin wheel whistle".split()
    ),
}
ANY_USE = (
    "played with the {}", "took turns carrying the {}", "looked at the {} from every side", "showed the {} to everyone",
)  # fmt: skip
OBJECTS = tuple(USES)
ANIMALS = tuple("dog cat fox rabbit duck goat owl mouse bear horse frog hen squirrel sheep".split())
PLACES = {
    "forest": "in", "beach": "at", "garden": "in", "park": "in", "river": "by", "lake": "by", "hill": "on",
    "market": "at", "meadow": "in", "farm": "on", "harbour": "at", "library": "in", "village": "in", "bridge": "on",
}  # fmt: skip
FEELINGS = ("happy", "proud", "tired", "glad", "sleepy", "calm")
WEATHERS = ("sunny", "windy", "cold", "warm", "quiet", "foggy", "bright")
TIMES = ("morning", "day", "evening", "afternoon")
MANNERS = ("little", "friendly", "shy", "old", "curious", "hungry")
SPOTS = ("under a tree", "behind a wall", "next to a big stone", "in the grass", "near an old fence", "on a bench")


def uses(thing: str) -> tuple[str, ...]:
    return USES[thing] or tuple(use.format(thing) for use in ANY_USE)


def random_name(rng: Random) -> str:
    """Mostly a name of the list; now and then one made up, so that any name can be copied."""
    if rng.random() < 0.75:
        return rng.choice(NAMES)
    ends = ("", "n", "r", "l", "s", "th", "ck", "m")
    syllables = [rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3))]
    name = capital("".join(syllables) + rng.choice(ends))
    return name if len(name) > 2 else random_name(rng)


@dataclass(frozen=True)
class Facts:
    """What a story tells."""

    name: str
    colour: str
    object: str
    animal: str
    place: str
    feeling: str

    @property
    def held_out(self) -> bool:
        """Whether training never shows this triple."""
        return self.name in PRONOUNS and chance_of("story", self.name, self.colour, self.object) < 0.1

    @staticmethod
    def draw(rng: Random, held_out: bool = False) -> Facts:
        while True:
            name = rng.choice(NAMES) if held_out else random_name(rng)
            # Objects with uses of their own are half of all.
            thing = rng.choice(OBJECTS[:20] if rng.random() < 0.5 else OBJECTS[20:])
            facts = Facts(
                name, rng.choice(COLOURS), thing, rng.choice(ANIMALS), rng.choice(tuple(PLACES)), rng.choice(FEELINGS)
            )
            if facts.held_out == held_out:
                return facts


GO = (
    "One {weather} {time}, {name} went to the {place}.",
    "On a {weather} {time}, {name} walked to the {place}.",
    "Once upon a time, {name} went to the {place} on a {weather} {time}.",
    "It was a {weather} {time}, and {name} was {at} the {place}.",
)
FIND = (
    "There {pronoun} found {a_colour} {object} {spot}.",
    "After a while {pronoun} found {a_colour} {object} {spot}.",
    "{Spot}, {pronoun} found {a_colour} {object}.",
    "{Pronoun} looked around and found {a_colour} {object} {spot}.",
)
GO_AND_FIND = (
    "One {weather} {time}, {name} went to the {place} and found {a_colour} {object}.",
    "On a {weather} {time}, {name} found {a_colour} {object} {at} the {place}.",
    "Once upon a time, {name} went to the {place} and found {a_colour} {object} {spot}.",
    "{name} was {at} the {place} one {weather} {time} and found {a_colour} {object} {spot}.",
)
MEET = (
    "Then {a_manner} {animal} came by and wanted to play.",
    "Soon {name} met {a_manner} {animal}.",
    "{A_manner} {animal} was near, and {name} said hello.",
    "Just then {a_manner} {animal} came closer and sat down.",
)
USE = ("Together they {use}.", "After that they {use}.", "The two of them {use}.", "The {animal} and {name} {use}.")
MEET_AND_USE = (
    "{A_manner} {animal} came by, and together they {use}.",
    "Soon {name} met {a_manner} {animal}, and they {use}.",
    "Then {a_manner} {animal} came closer, and the two of them {use}.",
)
END = (
    "In the end {name} went home and felt {feeling}.",
    "When it was time to go, {name} felt {feeling}.",
    "That night {name} felt {feeling} and dreamed of the {colour} {object}.",
    "{name} took the {colour} {object} home and felt {feeling}.",
    "{name} and the {animal} became friends, and {name} felt {feeling}.",
)
PLOTS = {3: (GO_AND_FIND, MEET_AND_USE, END), 4: (GO_AND_FIND, MEET, USE, END), 5: (GO, FIND, MEET, USE, END)}
"""The sentences of a story, by their number."""


def tell(facts: Facts, sentences: int, rng: Random) -> str:
    """A story of these facts; everything else is drawn."""
    pronoun, spot, manner = PRONOUNS.get(facts.name, facts.name), rng.choice(SPOTS), rng.choice(MANNERS)
    fields = {
        **vars(facts),
        "pronoun": pronoun,
        "Pronoun": capital(pronoun),
        "spot": spot,
        "Spot": capital(spot),
        "a_manner": f"{article(manner)} {manner}",
        "A_manner": f"{capital(article(manner))} {manner}",
        "a_colour": f"{article(facts.colour)} {facts.colour}",
        "at": PLACES[facts.place],
        "weather": rng.choice(WEATHERS),
        "time": rng.choice(TIMES),
        "use": rng.choice(uses(facts.object)),
    }
    return " ".join(rng.choice(choices).format(**fields) for choices in PLOTS[sentences])


@cache
def pattern(template: str) -> re.Pattern[str]:
    """Reads what a template of a sentence wrote."""

    def either(words: object) -> str:
        return "|".join(map(re.escape, words))

    fields = {
        "name": "[A-Z][a-z]+",
        "colour": either(COLOURS),
        "object": either(OBJECTS),
        "animal": either(ANIMALS),
        "place": either(PLACES),
        "feeling": either(FEELINGS),
        "weather": either(WEATHERS),
        "time": either(TIMES),
        "at": either(set(PLACES.values())),
        "spot": either(SPOTS),
        "Spot": either(map(capital, SPOTS)),
        "a_manner": either(f"{article(m)} {m}" for m in MANNERS),
        "A_manner": either(f"{capital(article(m))} {m}" for m in MANNERS),
        "a_colour": either(f"{article(c)} {c}" for c in COLOURS),
        "pronoun": "[a-z]+|[A-Z][a-z]+",
        "Pronoun": "[A-Z][a-z]+",
        "use": either(use for thing in OBJECTS for use in uses(thing)),
    }
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        key = match[1]
        if key in seen:
            return f"(?P={key})"
        seen.add(key)
        return f"(?P<{key}>{fields[key]})"

    escaped = re.sub(r"\\([{}])", r"\1", re.escape(template))
    return re.compile(re.sub(r"\{(\w+)\}", group, escaped))


def sentences_of(text: str) -> list[str]:
    return re.findall(r"[^.]+\.", text.strip())


def read_story(text: str) -> Facts | None:
    """The facts of a story, or None if it leaves the grammar or contradicts itself anywhere.

    Every sentence must come from its place's templates, and whatever is named twice,
    pronoun, article, preposition and use included, must agree.
    """
    parts = [part.strip() for part in sentences_of(text)]
    if len(parts) not in PLOTS or " ".join(parts) != text.strip():
        return None
    told: dict[str, str] = {}
    for part, templates in zip(parts, PLOTS[len(parts)]):
        match = next((m for template in templates if (m := pattern(template).fullmatch(part))), None)
        if match is None:
            return None
        for key, value in match.groupdict().items():
            if key == "a_colour":
                key, value = "colour", value.split()[1]
            elif key == "Pronoun":
                key, value = "pronoun", value if value not in ("She", "He") else value.lower()
            if told.setdefault(key, value) != value:
                return None
    try:
        facts = Facts(*(told[key] for key in Facts.__dataclass_fields__))
    except KeyError:
        return None
    agree = told.get("pronoun", PRONOUNS.get(facts.name, facts.name)) == PRONOUNS.get(facts.name, facts.name)
    agree &= told.get("at", PLACES[facts.place]) == PLACES[facts.place]
    return facts if agree and told["use"] in uses(facts.object) else None


LENGTHS = {3: ("a short story", "a very short story"), 4: ("a story",), 5: ("a long story", "a longer story")}
ASKED = (
    ("name", "colour", "object"),
    ("name", "colour", "object"),
    ("name", "object"),
    ("name", "animal"),
    ("name", "place"),
    ("name", "colour", "object", "place"),
    ("name", "colour", "object", "animal"),
    ("name", "animal", "place"),
    ("name", "colour", "object", "animal", "place"),
    ("name",),
    (),
)
"""What a request may name; the model makes up the rest."""


def request(facts: Facts, asked: tuple[str, ...], sentences: int, rng: Random) -> str:
    """Asks for a story that names these of the facts."""
    story = rng.choice(LENGTHS[sentences])
    start, stop = rng.choice(
        (("Tell me ", "."), ("Please tell me ", "."), ("Write ", "."), ("Can you tell me ", "?"), ("I would like ", "."))
    )
    if not asked:
        return f"{start}{story}{stop}"
    items = [facts.name]
    if "object" in asked:
        thing = f"{facts.colour} {facts.object}" if "colour" in asked else facts.object
        items.append(f"{article(thing)} {thing}")
    if "animal" in asked:
        items.append(f"{article(facts.animal)} {facts.animal}")
    if len(items) == 3 and rng.random() < 0.5:
        items[1:] = items[:0:-1]
    listed = items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
    where = f" {PLACES[facts.place]} the {facts.place}" if "place" in asked else ""
    return f"{start}{story} about {listed}{where}{stop}"


QUESTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "colour": (("What colour was the {object}?", "Which colour was the {object}?"), "The {object} was {colour}."),
    "object": (("What did {name} find?",), "{name} found {a_colour} {object}."),
    "animal": (("Which animal did {name} meet?", "Who did {name} meet?"), "{name} met {a_animal}."),
    "place": (("Where was {name}?", "Where did the story of {name} happen?"), "{name} was {at} the {place}."),
    "finder": (("Who found the {object}?",), "{name} found the {object}."),
    "feeling": (("How did {name} feel?", "How did {name} feel in the end?"), "{name} felt {feeling}."),
    "yes": (("Did {name} meet {a_animal}?",), "Yes, {name} met {a_animal}."),
    "no": (("Did {name} meet {a_other_animal}?",), "No, {name} met {a_animal}."),
    "absent": (("What colour was the {other}?", "Who found the {other}?"), "There was no {other} in the story."),
}
"""Questions about a story and their right answers."""


def right_answer(key: str, facts: Facts, other: str = "") -> str:
    """The answer to a question of that kind; other: the thing that was asked for and is absent."""
    return QUESTIONS[key][1].format(**_fields(facts), other=other)


def _fields(facts: Facts) -> dict[str, str]:
    return {
        **vars(facts),
        "at": PLACES[facts.place],
        "a_colour": f"{article(facts.colour)} {facts.colour}",
        "a_animal": f"{article(facts.animal)} {facts.animal}",
    }


def absent_thing(rng: Random, told: list[Facts]) -> str:
    """An object that no story of the conversation has."""
    return rng.choice([thing for thing in OBJECTS if all(thing != facts.object for facts in told)])


def question(key: str, facts: Facts, rng: Random, other: str = "") -> Turn:
    """A question of that kind and its answer."""
    animal = rng.choice([animal for animal in ANIMALS if animal != facts.animal])
    asked = rng.choice(QUESTIONS[key][0])
    text = asked.format(**_fields(facts), a_other_animal=f"{article(animal)} {animal}", other=other)
    return Turn(text, right_answer(key, facts, other))


# Shapes, for the picture model next door.

SHAPE_FACTS = {
    "circle": ("is round and has no corners", "no corners"),
    "square": ("has four equal sides and four corners", "four corners"),
    "triangle": ("has three sides and three corners", "three corners"),
    "diamond": ("has four corners and stands on one of them", "four corners"),
    "cross": ("is made of two bars that meet in the middle", "twelve corners"),
    "ring": ("is round and has a hole in the middle", "no corners"),
}


def shape_turn(rng: Random, kind: str | None = None) -> Turn:
    kind = kind or rng.choice(("describe", "corners", "caption"))
    prompt = rng.choice(GRID)
    if kind == "describe":
        thing = f"{article(prompt.colour)} {prompt.colour} {prompt.shape}"
        answer = f"{capital(thing)} {SHAPE_FACTS[prompt.shape][0]}. Its colour is {prompt.colour}."
        return Turn(f"Describe {thing}.", answer)
    if kind == "corners":
        a_shape = f"a {prompt.shape}"
        return Turn(f"How many corners does {a_shape} have?", f"{capital(a_shape)} has {SHAPE_FACTS[prompt.shape][1]}.")
    asks = ("Write a picture prompt with a {} {} {}.", "Give me a prompt for a {} {} {}.")
    return Turn(rng.choice(asks).format(prompt.size, prompt.colour, prompt.shape), prompt.caption)


# Small talk.

DEFAULT_NAME = "Cuckoo"
SKILLS = "I can tell stories, add and subtract numbers up to 99, and describe shapes."
TALK = (
    (("Hello!", "Hi!", "Good morning!", "Hello", "Hi there!"), "Hello! " + SKILLS),
    (("What can you do?", "Help", "How can you help me?", "What do you know?"), SKILLS),
    (("Thank you!", "Thanks!", "Thank you very much."), "You are welcome!"),
    (("Goodbye!", "Bye!", "See you soon!"), "Goodbye!"),
    (
        (
            "What is the capital of France?", "What time is it?", "Who is the king of Spain?", "How far is the moon?",
            "Write a poem.", "What is the weather like today?", "Who wrote this song?", "Translate this into German.",
            "How do I bake bread?", "What is the meaning of life?", "Can you drive a car?", "Why is the sky blue?",
            "Write a program.", "How old is the earth?", "Who won the game?", "What should I eat today?",
        ),
        "I do not know that. " + SKILLS,
    ),
)  # fmt: skip
ASK_NAME = ("What is your name?", "Who are you?", "What are you called?")

PLAIN_SYSTEM = ("You are a helpful assistant.", "You are a friendly storyteller.", "Help the user.")
BRIEF_SYSTEM = ("Keep your answers short.", "Answer briefly.", "You are a helpful assistant. Keep your answers short.")
NAME_SYSTEM = ("Your name is {}.", "You are {}, a helpful assistant.", "You are a helpful assistant. Your name is {}.")


def name_answer(name: str) -> str:
    return f"My name is {name}."


# Repeating, the exercise that teaches a model to copy.


def repeat_turn(rng: Random) -> Turn:
    """A list of words to say again."""
    pools = (COLOURS, OBJECTS, ANIMALS, tuple(PLACES), GOODS, FEELINGS)
    words = []
    for _ in range(rng.randint(2, 9)):
        draw = rng.random()
        if draw < 0.4:
            words.append(random_name(rng))
        elif draw < 0.55:
            words.append(str(rng.randint(0, LARGEST)))
        else:
            words.append(rng.choice(rng.choice(pools)))
    return Turn(rng.choice(("Repeat: {}", "Say: {}", "Repeat after me: {}")).format(" ".join(words)), " ".join(words))


# Conversations.


@dataclass
class Conversation:
    """A text to learn from: a system message, perhaps, and turns; or a story without any."""

    system: str | None = None
    turns: list[Turn] = field(default_factory=list)
    plain: str | None = None

    def messages(self) -> list[dict[str, str]]:
        head = [{"role": "system", "content": self.system}] if self.system is not None else []
        for turn in self.turns:
            head += [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.assistant}]
        return head


def converse(rng: Random, repeats: float = 0.0) -> Conversation:
    """A conversation of the training set; repeats: the share that only says words again."""
    if repeats and rng.random() < repeats:
        return Conversation(turns=[repeat_turn(rng) for _ in range(rng.randint(1, 3))])
    if rng.random() < 0.06:
        return Conversation(plain=tell(Facts.draw(rng), rng.choice((3, 4, 5)), rng))
    system, brief, own_name = None, False, DEFAULT_NAME
    if rng.random() < 0.4:
        kind = rng.choice(("plain", "brief", "name"))
        brief = kind == "brief"
        own_name = random_name(rng) if kind == "name" else own_name
        system = rng.choice({"plain": PLAIN_SYSTEM, "brief": BRIEF_SYSTEM, "name": NAME_SYSTEM}[kind]).format(own_name)
    told: list[Facts] = []
    turns: list[Turn] = []

    def story() -> Turn:
        taken = {facts.name for facts in told} | {facts.object for facts in told}
        while (facts := Facts.draw(rng)).name in taken or facts.object in taken:
            pass
        told.append(facts)
        sentences = rng.choice(tuple(PLOTS))
        wanted = request(facts, rng.choice(ASKED), sentences, rng)
        return Turn(wanted, tell(facts, 3 if brief and sentences == 4 else sentences, rng))

    def asking() -> Turn:
        return question(rng.choice(tuple(QUESTIONS)), rng.choice(told), rng, absent_thing(rng, told))

    def adding() -> Turn:
        draw = rng.random()
        if draw < 0.08:
            return too_large(rng)
        if draw < 0.2:
            return word_problem(rng, draw_sum(rng, False, rng.choice("+-"), whole=True), brief)
        return sum_turn(rng, draw_sum(rng, False), brief)

    def talking() -> Turn:
        if rng.random() < 0.4 or own_name != DEFAULT_NAME and rng.random() < 0.7:
            return Turn(rng.choice(ASK_NAME), name_answer(own_name))
        asks, answer = rng.choice(TALK)
        return Turn(rng.choice(asks), answer)

    kinds: tuple[Callable[[], Turn], ...] = (adding, story, asking, lambda: shape_turn(rng), talking)
    weights = {
        "sums": (85, 3, 5, 2, 5),
        "stories": (6, 12, 74, 3, 5),
        "mixed": (40, 15, 20, 13, 12),
    }[rng.choices(("sums", "stories", "mixed"), (45, 40, 15))[0]]
    if weights[2] > 50:
        turns.append(story())
    count = rng.randint(1, 6) if rng.random() < 0.9 else rng.randint(6, 12)
    while len(turns) < count:
        kind = rng.choices(kinds, weights)[0]
        if kind is asking and not told:
            kind = adding
        turns.append(kind())
    return Conversation(system, turns)
