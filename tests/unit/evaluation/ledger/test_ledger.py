"""What was recorded is found again as it was, costs little room, and is replaced by nothing worse."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from judgments import FAILED, OK, make_question

from sacpo_exp.config.schema import Journal
from sacpo_exp.evaluation.ledger import Answer, Ledger, Question, State
from sacpo_exp.evaluation.ledger.tables import SHARED, find_file_system


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as opened:
        yield opened


def test_everything_comes_back_as_it_was_recorded(path: Path) -> None:
    question = make_question()
    answer = Answer(
        State.refused, "I won't.", "content_filter", "late", "judge-2", 100, 60, 7, 3, "batch", 0.25, "2026-01-01"
    )
    with Ledger(path) as ledger:
        ledger.record(question, answer)
    with Ledger(path) as ledger:
        assert ledger.find([question.key]) == {question.key: answer}
        assert list(ledger.judgments()) == [(question, answer)]


def test_a_recorded_question_has_the_same_key(ledger: Ledger) -> None:
    turned = make_question(first="b", second="a")
    ledger.record(turned, OK)
    ((question, _),) = ledger.judgments()
    assert (question.key, question.order) == (turned.key, 1)


def test_only_what_is_there_is_found(ledger: Ledger) -> None:
    question = make_question()
    ledger.record(question, OK)
    assert ledger.find([]) == {}
    assert ledger.find(["unknown", question.key]) == {question.key: OK}


def test_judgments_come_in_order_of_key_however_many_pages_they_fill(ledger: Ledger) -> None:
    questions = {question.key: question for question in (make_question(str(n)) for n in range(450))}
    for question in questions.values():
        ledger.record(question, OK)
    assert list(ledger.judgments()) == [(questions[key], OK) for key in sorted(questions)]


def test_judgments_can_be_recorded_while_they_are_read(ledger: Ledger) -> None:
    ledger.record(make_question("0"), OK)
    seen = 0
    for question, _ in ledger.judgments():
        ledger.record(replace(question, repeat=1), OK)
        seen += 1
    assert seen == 1
    assert len(list(ledger.judgments())) == 2


def test_a_hundred_thousand_keys_can_be_looked_up(ledger: Ledger) -> None:
    question = make_question()
    ledger.record(question, OK)
    keys = [f"{number:064x}" for number in range(100_000)]
    assert ledger.find([*keys, question.key]) == {question.key: OK}


def test_responses_that_share_judgments_are_kept_once(path: Path) -> None:
    long = make_question("x", first="one " * 5000, second="two " * 5000, prompt="why " * 2000)
    with Ledger(path) as ledger:
        for repeat in range(16):
            content = f"Compare {long.prompt}:\n{long.first}\nwith\n{long.second}"
            ledger.record(replace(long, repeat=repeat, messages=(("user", content),)), OK)
        once = "SELECT count(*) FROM texts"
        texts = "Compare ", long.prompt, ":\n", long.first, "\nwith\n", long.second
        assert ledger._database.execute(once).fetchone()[0] == len(texts)
    assert path.stat().st_size < 100_000


def test_attempts_add_up(ledger: Ledger) -> None:
    question = make_question()
    ledger.record(question, FAILED)
    ledger.record(question, replace(FAILED, error="500", attempts=2))
    assert ledger.find([question.key])[question.key] == replace(FAILED, error="500", attempts=10)
    ledger.record(question, OK)
    assert ledger.find([question.key])[question.key] == replace(OK, attempts=11)


def test_tokens_of_an_answer_that_is_replaced_were_paid_and_stay_counted(ledger: Ledger) -> None:
    question = make_question()
    first = replace(OK, state=State.unparsed, prompt_tokens=100, cached_tokens=None, completion_tokens=10)
    ledger.record(question, first)
    ledger.record(question, replace(OK, prompt_tokens=100, cached_tokens=None, completion_tokens=7))
    found = ledger.find([question.key])[question.key]
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (200, None, 17)


@pytest.mark.parametrize("state", [State.ok, State.unparsed, State.refused])
def test_an_answer_is_not_replaced_by_a_failure(ledger: Ledger, state: State) -> None:
    question = make_question()
    ledger.record(question, replace(OK, state=state))
    ledger.record(question, FAILED)
    assert ledger.find([question.key])[question.key] == replace(OK, state=state, attempts=9)


def test_an_answer_without_scores_is_replaced_by_one_that_was_asked_for_again(ledger: Ledger) -> None:
    question = make_question()
    ledger.record(question, replace(OK, state=State.unparsed, raw="Both are fine."))
    ledger.record(question, OK)
    assert ledger.find([question.key])[question.key] == replace(OK, attempts=2)


def test_an_error_undoes_what_it_interrupts(ledger: Ledger) -> None:
    def judgments() -> Iterator[tuple[Question, Answer]]:
        yield make_question("a"), OK
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        ledger.merge(judgments())
    assert list(ledger.judgments()) == []
    ledger.record(make_question("b"), OK)
    assert len(list(ledger.judgments())) == 1


def test_a_question_is_claimed_once(path: Path, ledger: Ledger) -> None:
    with Ledger(path) as other:
        assert ledger.claim(["a", "b"]) == {"a", "b"}
        assert ledger.claim(["a"]) == {"a"}
        assert other.claim(["b", "c"]) == {"c"}
        assert ledger.claim(["c"]) == set()


def test_a_claim_ends_with_its_release(path: Path, ledger: Ledger) -> None:
    with Ledger(path) as other:
        ledger.claim(["a", "b"])
        ledger.release(["a"])
        assert other.claim(["a", "b"]) == {"a"}


def test_nobody_releases_the_claims_of_others(path: Path, ledger: Ledger) -> None:
    with Ledger(path) as other:
        ledger.claim(["a"])
        other.claim(["b"])
        other.release(["a", "b"])
        assert other.claim(["a"]) == set()


def test_a_claim_ends_with_the_record(path: Path, ledger: Ledger) -> None:
    with Ledger(path) as other:
        question = make_question()
        ledger.claim([question.key])
        ledger.record(question, OK)
        assert other.claim([question.key]) == {question.key}
        assert question.key in other.find([question.key])  # for which reason one looks after claiming


def test_claims_end_when_the_ledger_is_closed(path: Path) -> None:
    first, second = Ledger(path), Ledger(path)
    first.claim(["a"])
    first.close()
    first.close()
    assert second.claim(["a"]) == {"a"}
    second.close()
    assert list(path.parent.rglob("owner-*")) == []


def test_threads_may_share_a_ledger(ledger: Ledger) -> None:
    def record(name: int) -> None:
        for repeat in range(50):
            ledger.record(make_question(str(name), repeat=repeat), OK)

    threads = [Thread(target=record, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(ledger.judgments())) == 400


def test_another_parser_changes_states_and_nothing_else(ledger: Ledger) -> None:
    questions = [make_question(name, criterion=name) for name in ("helpfulness", "safety", "refusal", "failed")]
    for question in questions[:3]:
        ledger.record(question, replace(OK, raw=question.criterion))
    ledger.record(questions[3], FAILED)
    asked = []

    def read_state(criterion: str, raw: str | None, finish_reason: str | None, scale: tuple[float, float]) -> State:
        asked.append((criterion, raw, finish_reason, scale))
        return State.unparsed if raw == "safety" else State.ok

    counts = ledger.reparse(read_state)
    assert counts == {(State.ok, State.ok): 2, (State.ok, State.unparsed): 1}
    assert sorted(asked) == [(name, name, "stop", (1.0, 10.0)) for name in ("helpfulness", "refusal", "safety")]
    found = ledger.find([question.key for question in questions])
    assert found[questions[1].key] == replace(OK, raw="safety", state=State.unparsed)
    assert found[questions[3].key] == FAILED


def test_a_parser_that_breaks_changes_nothing(ledger: Ledger) -> None:
    for name in "ab":
        ledger.record(make_question(name), OK)

    states = iter([State.unparsed])
    with pytest.raises(StopIteration):
        ledger.reparse(lambda *_: next(states))
    assert [answer for _, answer in ledger.judgments()] == [OK, OK]


def test_batches_are_open_until_they_are_closed(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add_batch("b2", "http://one", ["z", "y"])
        ledger.add_batch("b1", "http://one", ["x"])
        ledger.add_batch("b3", "http://two", [])
    with Ledger(path) as ledger:
        assert list(ledger.open_batches("http://one").items()) == [("b2", ["z", "y"]), ("b1", ["x"])]
        assert ledger.open_batches("http://two") == {"b3": []}
        ledger.close_batch("b2")
        assert ledger.open_batches("http://one") == {"b1": ["x"]}
        assert ledger.open_batches("http://three") == {}


def test_a_summary_counts_by_judge_and_criterion(ledger: Ledger) -> None:
    usage = {"prompt_tokens": 100, "cached_tokens": 40, "completion_tokens": 5}
    ledger.record(make_question("a"), replace(OK, **usage))
    ledger.record(make_question("b"), replace(OK, state=State.unparsed, created="2026-01-01", **usage))
    ledger.record(make_question("c"), FAILED)
    ledger.record(make_question("e", criterion="helpfulness"), OK)
    ledger.record(make_question("d", model="another"), OK)
    entries = ledger.summarise()
    names = [("another", "safety"), ("judge", "helpfulness"), ("judge", "safety")]
    assert [(entry.model, entry.criterion) for entry in entries] == names
    assert entries[2].states == {State.ok: 1, State.unparsed: 1, State.failed: 1}
    assert (entries[2].prompt_tokens, entries[2].cached_tokens, entries[2].completion_tokens) == (200, 80, 10)
    assert (entries[2].attempts, entries[2].first, entries[2].last) == (10, "2026-01-01", OK.created)
    assert (entries[1].prompt_tokens, entries[1].base_url) == (0, "http://localhost/v1")


def journal_of(path: Path) -> str:
    database = sqlite3.connect(path)
    mode = database.execute("PRAGMA journal_mode").fetchone()[0]
    database.close()
    return str(mode)


def test_the_journal_is_the_user_s_choice_and_stays(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.record(make_question(), OK)
    assert journal_of(path) == "wal"
    for journal, expected in ((Journal.delete, "delete"), (None, "delete"), (Journal.wal, "wal")):
        with Ledger(path, journal) as ledger:
            assert len(list(ledger.judgments())) == 1
        assert journal_of(path) == expected
    new = path.with_name("new.sqlite")
    Ledger(new, Journal.delete).close()
    assert journal_of(new) == "delete"


MOUNTS = [("/", "ext4"), ("/home", "nfs4"), ("/home/me/scratch", "xfs"), ("/work", "ext4"), ("/work", "fuse.sshfs")]


@pytest.mark.parametrize(
    ("place", "expected", "shared"),
    [
        ("/homes/ledger", "ext4", False),
        ("/home/me/ledger", "nfs4", True),
        ("/home/me/scratch/ledger", "xfs", False),
        ("/work/ledger", "fuse.sshfs", True),  # mounted over the first
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(place: str, expected: str, shared: bool) -> None:
    found = find_file_system(Path(place), MOUNTS)
    assert (found, SHARED.fullmatch(found) is not None) == (expected, shared)
