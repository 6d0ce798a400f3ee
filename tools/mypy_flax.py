"""mypy plugin: classes made by `flax.struct.dataclass` have a `replace` method.

flax adds it when the module runs, where no type checker looks. Its keyword arguments are the
fields, each optional, so that a misspelt or mistyped one is an error.
"""

from collections.abc import Callable

from mypy.nodes import ARG_NAMED_OPT, Argument, AssignmentStmt, NameExpr, Var
from mypy.plugin import ClassDefContext, Plugin
from mypy.plugins.common import add_method_to_class
from mypy.plugins.dataclasses import dataclass_class_maker_callback
from mypy.typevars import fill_typevars


def add_replace(context: ClassDefContext) -> bool:
    """What mypy does for a dataclass, and `replace`."""
    if not dataclass_class_maker_callback(context):
        return False  # some base class is not analysed yet: mypy comes again
    arguments = []
    for base in reversed(context.cls.info.mro):
        for statement in base.defn.defs.body:
            if isinstance(statement, AssignmentStmt) and statement.type is not None:
                (target,) = statement.lvalues
                if isinstance(target, NameExpr):
                    variable = Var(target.name, statement.type)
                    arguments.append(Argument(variable, statement.type, None, ARG_NAMED_OPT))
    self_type = fill_typevars(context.cls.info)
    add_method_to_class(context.api, context.cls, "replace", arguments, self_type)
    return True


class FlaxPlugin(Plugin):
    """Answers for `flax.struct.dataclass` alone."""

    def get_class_decorator_hook_2(self, fullname: str) -> Callable[[ClassDefContext], bool] | None:
        """mypy asks for each decorator of each class."""
        return add_replace if fullname == "flax.struct.dataclass" else None


def plugin(version: str) -> type[Plugin]:
    """mypy's entry point."""
    return FlaxPlugin
