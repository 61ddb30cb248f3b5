"""References: a flow is loaded by one, and one is made of a flow."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgflow import Flow
from pgflow.errors import FlowDefinitionError, FlowImportError, FlowNotFoundError
from pgflow.reference import load_flow, reference_of

FLOW = "from pgflow import Flow\nflow = Flow('orders')\n"
TWO_FLOWS = FLOW + "other = Flow('other')\nnumber = 3\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, as a console script sees it: not on sys.path. Imports are undone."""
    folder = tmp_path.resolve() / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path, modules = list(sys.path), set(sys.modules)
    sys.path[:] = [entry for entry in path if entry not in ("", str(folder))]
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str = FLOW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    [
        "flows/a.py:flow",
        "./flows/a.py:flow",
        "flows/a.py",
        "flows/../flows/a.py:flow",
        "~/project/flows/a.py:flow",
    ],
)
def test_a_file_is_loaded_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    file = write(folder / "flows/a.py")
    flow = load_flow(reference)
    assert flow.slug == "orders"
    assert load_flow(f"{file}:flow") is flow


def test_a_file_and_a_link_to_it_are_one_module(folder: Path) -> None:
    write(folder / "real/a.py")
    (folder / "link.py").symlink_to("real/a.py")
    assert load_flow("link.py:flow") is load_flow("real/a.py:flow")
    assert sys.path[0] == str(folder / "real")


def test_files_of_one_name_are_two_modules(folder: Path) -> None:
    write(folder / "a/flows.py")
    write(folder / "b/flows.py")
    assert load_flow("a/flows.py") is not load_flow("b/flows.py")


@pytest.mark.parametrize("name", ["my flow.v2.py", "a:b.py", "1st.py", "ünder.py"])
def test_a_file_may_have_an_odd_name(folder: Path, name: str) -> None:
    write(folder / name)
    assert load_flow(f"{name}:flow") is load_flow(name)


def test_a_files_siblings_can_be_imported_also_later_and_elsewhere(folder: Path) -> None:
    write(folder / "flows/helper_of_orders.py", "value = 5\n")
    write(folder / "flows/late_helper_of_orders.py", "value = 6\n")
    lines = "import helper_of_orders\n@flow.step\ndef late(input):\n    import late_helper_of_orders as late\n"
    write(folder / "flows/orders.py", f"{FLOW}{lines}    return late.value\n")
    load_flow("flows/orders.py:flow")
    assert sys.path[0] == str(folder / "flows")
    # A forked pool process has the module and is given the dispatcher's sys.path.
    sys.path.remove(str(folder / "flows"))
    assert load_flow("flows/orders.py:flow").handler("late")(None) == 6


def test_a_files_folder_is_before_what_was_on_the_path(folder: Path) -> None:
    write(folder / "first/helper_of_two.py", "slug = 'first'\n")
    write(folder / "second/helper_of_two.py", "slug = 'second'\n")
    write(
        folder / "second/orders.py",
        "import helper_of_two\nfrom pgflow import Flow\nf = Flow(helper_of_two.slug)\n",
    )
    sys.path[:0] = [str(folder / "first"), str(folder / "second")]
    assert load_flow("second/orders.py:f").slug == "second"
    assert sys.path.count(str(folder / "second")) == 1


def test_objects_of_a_files_classes_can_be_pickled(folder: Path) -> None:
    lines = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    write(folder / "orders.py", f"{lines}{FLOW}@dataclass\nclass Order:\n    number: int\n")
    load_flow("orders.py:flow")
    (module,) = [module for name, module in sys.modules.items() if name.startswith("pgflow_file_orders")]
    order = module.Order(3)
    assert pickle.loads(pickle.dumps(order)) == order


def test_a_module_is_loaded_from_the_current_folder(folder: Path) -> None:
    write(folder / "shop_a/__init__.py", "")
    write(folder / "shop_a/flows.py", "from . import helper\n" + FLOW)
    write(folder / "shop_a/helper.py", "")
    flow = load_flow("shop_a.flows:flow")
    assert flow.slug == "orders"
    assert load_flow("shop_a.flows") is flow


def test_a_module_that_was_just_written_is_found(folder: Path) -> None:
    with pytest.raises(FlowNotFoundError):
        load_flow("written_later:flow")
    write(folder / "written_later.py")
    assert load_flow("written_later:flow").slug == "orders"


def test_one_flow_under_two_names_needs_no_name(folder: Path) -> None:
    write(folder / "a.py", FLOW + "alias = flow\n")
    assert load_flow("a.py").slug == "orders"


# --- what cannot be found ------------------------------------------------------------------------

INSTALL = f"install it for {sys.executable}"
NOT_FOUND = {
    "nowhere.py:flow": "There is no file nowhere.py (this is {folder}): give the path of the flow's file",
    "a:b/nowhere.py": "There is no file a:b/nowhere.py (this is {folder}): give the path of the flow's file",
    "dir.py:flow": "There is no file dir.py (this is {folder}): give the path of the flow's file",
    "nowhere_at_all:flow": "There is no module 'nowhere_at_all': "
    "install it, give the path of its file, or run from the folder that has it (this is {folder})",
    "shop_b.nowhere:flow": "There is no module 'shop_b.nowhere': "
    "install it, give the path of its file, or run from the folder that has it (this is {folder})",
    "shop_b.flows.flow": "There is no module 'shop_b.flows.flow': did you mean shop_b.flows:flow?",
    "two:nothing": "two:nothing is not there: did you mean two:flow or two:other?",
    "two:number": "two:number is of type int, not a Flow: did you mean two:flow or two:other?",
    "two.py:Flow": "two.py:Flow is of type type, not a Flow: did you mean two.py:flow or two.py:other?",
    "two.py": "There are several flows in two.py: name one, two.py:flow or two.py:other",
    "two": "There are several flows in two: name one, two:flow or two:other",
    "two.py:": "There are several flows in two.py: name one, two.py:flow or two.py:other",
    "empty.py": 'There is no flow in empty.py: assign one to a variable, flow = Flow("slug")',
    "empty.py:flow": 'empty.py:flow is not there: it has no flow, as in flow = Flow("slug")',
    "shop_b/flows:flow": "'shop_b/flows:flow' is no reference to a flow: did you mean shop_b/flows.py?",
    "shop_b/x:flow": "'shop_b/x:flow' is no reference to a flow: package.module:flow or path/file.py:flow",
    "two.py:flow:x": "'two.py:flow:x' is no reference to a flow: package.module:flow or path/file.py:flow",
    "": "'' is no reference to a flow: package.module:flow or path/file.py:flow",
    ":flow": "':flow' is no reference to a flow: package.module:flow or path/file.py:flow",
    ".flows:flow": "'.flows:flow' is no reference to a flow: package.module:flow or path/file.py:flow",
    "a..b:flow": "'a..b:flow' is no reference to a flow: package.module:flow or path/file.py:flow",
}


@pytest.mark.parametrize("reference", NOT_FOUND)
def test_what_is_not_there_is_named_with_the_remedy(folder: Path, reference: str) -> None:
    (folder / "dir.py").mkdir()
    write(folder / "two.py", TWO_FLOWS)
    write(folder / "empty.py", "")
    write(folder / "shop_b/__init__.py", "")
    write(folder / "shop_b/flows.py")
    with pytest.raises(FlowNotFoundError) as raised:
        load_flow(reference)
    assert str(raised.value) == NOT_FOUND[reference].format(folder=folder)


# --- what the import raises ----------------------------------------------------------------------

BROKEN = {
    "exception": ("x = 1\nraise ValueError('bad\\nsecond line')", "ValueError: bad ({file}:2)"),
    "nothing to say": ("raise KeyError", "KeyError ({file}:1)"),
    "exit": ("import sys\nsys.exit(3)", "SystemExit: 3 ({file}:2)"),
    "exit with a text": ("raise SystemExit('usage: orders')", "SystemExit: usage: orders ({file}:1)"),
    "syntax": ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax ({file}:2)"),
    "syntax in a text": ("compile('1 +', '<text>', 'eval')", "SyntaxError: invalid syntax ({file}:1)"),
    "indentation": ("x = 1\n  y = 2", "IndentationError: unexpected indent ({file}:2)"),
    "missing module": (
        "\nimport nowhere_at_all",
        "ModuleNotFoundError: No module named 'nowhere_at_all' ({file}:2); " + INSTALL,
    ),
    "missing submodule": (
        "import json.nowhere",
        "ModuleNotFoundError: No module named 'json.nowhere' ({file}:1); " + INSTALL,
    ),
    "missing name": (
        "from json import nowhere",
        "ImportError: cannot import name 'nowhere' from 'json' ({json})",
    ),
    "within a library": (
        "import json\n\njson.loads('[')",
        "JSONDecodeError: Expecting value: line 1 column 2",
    ),
    "in a helper": (
        "import broken_helper",
        "ZeroDivisionError: division by zero ({folder}/broken_helper.py:2)",
    ),
    "wrong declaration": (
        "from pgflow import Flow\nflow = Flow('a', timeout=1.5)",
        "FlowDefinitionError: Flow 'a': timeout must be a whole number of seconds, got 1.5 ({file}:2)",
    ),
    "hostile text": (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        "E ({file}:3)",
    ),
    "long text": ("raise ValueError('x' * 501)", f"ValueError: {'x' * 500}... ({{file}}:1)"),
    "base exception": ("class B(BaseException): pass\nraise B('b')", "B: b ({file}:2)"),
}


@pytest.mark.parametrize("kind", ["broken_{n}.py:flow", "broken_{n}:flow"])
@pytest.mark.parametrize("name", BROKEN)
def test_what_a_module_raises_is_told_in_a_line_with_its_place(folder: Path, name: str, kind: str) -> None:
    text, reason = BROKEN[name]
    number = list(BROKEN).index(name)
    file = write(folder / f"broken_{number}.py", text)
    write(folder / "broken_helper.py", "\n1 / 0")
    reference = kind.format(n=number)
    with pytest.raises(FlowImportError) as raised:
        load_flow(reference)
    told = reason.format(file=file, folder=folder, json=json.__file__)
    assert str(raised.value).startswith(f"Cannot import {reference}: {told}")
    assert "\n" not in str(raised.value)
    assert f"{folder}/broken_" in str(raised.value)


def test_a_relative_import_of_a_file_is_told_the_remedy(folder: Path) -> None:
    write(folder / "shop_c/__init__.py", "")
    write(folder / "shop_c/flows.py", "from . import helper")
    with pytest.raises(FlowImportError, match=r"; refer to a package's file as package\.module:flow$"):
        load_flow("shop_c/flows.py:flow")


def test_an_error_in_a_package_is_not_taken_for_a_missing_module(folder: Path) -> None:
    write(folder / "shop_d/__init__.py", "import nowhere_at_all")
    write(folder / "shop_d/flows.py")
    with pytest.raises(FlowImportError, match=r"No module named 'nowhere_at_all' \(.*/shop_d/__init__.py:1\); install"):
        load_flow("shop_d.flows:flow")


def test_a_file_is_imported_again_once_it_is_mended(folder: Path) -> None:
    write(folder / "a.py", "raise ValueError")
    with pytest.raises(FlowImportError):
        load_flow("a.py:flow")
    write(folder / "a.py", FLOW + "# mended\n")
    assert load_flow("a.py:flow").slug == "orders"


@pytest.mark.parametrize("reference", ["interrupted.py:flow", "interrupted:flow"])
def test_ctrl_c_during_an_import_is_no_import_error(folder: Path, reference: str) -> None:
    write(folder / "interrupted.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_flow(reference)


def test_a_flow_may_be_loaded_by_the_modules_own_getattr(folder: Path) -> None:
    write(folder / "lazy.py", f"def __getattr__(name):\n    {FLOW.replace(chr(10), '; ')}return flow\n")
    assert load_flow("lazy.py:anything").slug == "orders"


def test_what_a_modules_own_getattr_raises_is_told_in_a_line(folder: Path) -> None:
    file = write(folder / "lazy.py", "def __getattr__(name):\n    import nowhere_at_all\n")
    with pytest.raises(FlowImportError) as raised:
        load_flow("lazy.py:flow")
    assert str(raised.value) == (
        f"Cannot import lazy.py:flow: ModuleNotFoundError: No module named 'nowhere_at_all' ({file}:2); " + INSTALL
    )


# --- making a reference --------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["shop_e.flows:flow", "{folder}/shop_e/flows.py:flow"])
def test_a_loaded_flow_has_the_reference_it_was_loaded_by(folder: Path, reference: str) -> None:
    write(folder / "shop_e/__init__.py", "")
    write(folder / "shop_e/flows.py")
    reference = reference.format(folder=folder)
    flow = load_flow(reference)
    assert reference_of(flow) == reference
    assert load_flow(reference_of(flow)) is flow


def test_the_module_with_the_handlers_is_preferred_to_one_that_imports_the_flow(folder: Path) -> None:
    write(folder / "shop_f/__init__.py", "from shop_f.flows import flow\n")
    write(folder / "shop_f/flows.py", FLOW + "@flow.step\ndef a(input): ...\n")
    assert reference_of(load_flow("shop_f:flow")) == "shop_f.flows:flow"


SCRIPT = FLOW + "from pgflow.reference import reference_of\nif __name__ == '__main__': print(reference_of(flow))\n"


def python(*arguments: str, typed: str = "") -> str:
    done = subprocess.run([sys.executable, *arguments], input=typed, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_script_is_referred_to_by_its_file_and_a_module_that_runs_by_its_name(folder: Path) -> None:
    write(folder / "shop_g/__init__.py", "")
    file = write(folder / "shop_g/script.py", SCRIPT)
    assert python("shop_g/script.py") == f"{file}:flow"
    assert python("-m", "shop_g.script") == "shop_g.script:flow"
    assert load_flow(python("shop_g/script.py")).slug == "orders"


def test_a_folder_that_runs_is_referred_to_by_its_file(folder: Path) -> None:
    file = write(folder / "shop_h/__main__.py", SCRIPT)
    assert python("shop_h") == f"{file}:flow"
    assert load_flow(python("shop_h")).slug == "orders"


def test_a_flow_that_a_script_imports_is_referred_to_in_its_module(folder: Path) -> None:
    write(folder / "flows_of_script.py")
    write(folder / "script.py", SCRIPT.replace(FLOW, "from flows_of_script import flow\n"))
    assert python("script.py") == "flows_of_script:flow"


LOCAL: list[Any] = [Flow("in_a_list")]


def test_a_flow_that_is_no_modules_variable_is_refused_with_the_remedy() -> None:
    for flow in (Flow("local"), LOCAL[0]):
        with pytest.raises(FlowDefinitionError, match="cannot be found again by another process") as raised:
            reference_of(flow)
        assert str(raised.value).endswith(
            'assign it to a variable of a module and pass its reference, "package.module:flow" or "path/file.py:flow"'
        )


@pytest.mark.usefixtures("folder")
def test_a_flow_in_a_module_that_was_made_up_is_refused() -> None:
    made_up = types.ModuleType("made_up")
    made_up.__dict__["flow"] = flow = Flow("orders")
    sys.modules["made_up"] = made_up
    with pytest.raises(FlowDefinitionError, match="cannot be found again"):
        reference_of(flow)


def test_a_flow_typed_at_a_prompt_is_refused(folder: Path) -> None:
    assert re.search("Flow 'orders' cannot be found again", python("-c", SCRIPT))


def test_the_last_value_of_a_prompt_is_no_reference(folder: Path) -> None:
    typed = f"{FLOW}flow\nfrom pgflow.reference import reference_of\n"
    typed += "try: print(reference_of(flow))\nexcept Exception as error: print(type(error).__name__)\n\n"
    assert python("-i", "-q", typed=typed).splitlines()[-1] == "FlowDefinitionError"
