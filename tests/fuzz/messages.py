"""Protobuf messages with something wrong: in their fields, or in the bytes that they travel as."""

from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tests.fuzz.mutations import INTEGERS, NUMBERS, TEXTS, mutate_bytes

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31),
}
MANY = 70


def mutated(message: Any, chance: Random, times: int = 1) -> bytes:
    """The bytes of a message with so many fields set, changed or cleared, anywhere in it."""
    made = type(message)()
    made.CopyFrom(message)
    for _ in range(times):
        inner = chance.choice(_all_in(made))
        field = chance.choice(inner.DESCRIPTOR.fields)
        if chance.random() < 0.15:
            inner.ClearField(field.name)
        elif field.is_repeated:
            _change_many(inner, field, chance)
        elif field.message_type is not None:
            getattr(inner, field.name).SetInParent()
        else:
            setattr(inner, field.name, _value(field, chance))
    data: bytes = made.SerializeToString()
    return mutate_bytes(data, chance, times=chance.randint(1, 3)) if chance.random() < 0.25 else data


def _all_in(message: Any) -> list[Any]:
    """A message and all messages in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                found += [inner for key in value for inner in _all_in(value[key])]
        else:
            found += [inner for item in (value if field.is_repeated else [value]) for inner in _all_in(item)]
    return found


def _change_many(message: Any, field: FieldDescriptor, chance: Random) -> None:
    items = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        name = chance.choice([*items, _value(key, chance)]) if len(items) else _value(key, chance)
        if value.message_type is None:
            items[name] = _value(value, chance)
        else:
            items[name].SetInParent()
    elif field.message_type is not None:
        for _ in range(chance.choice((1, 1, 2, MANY))):
            made = items.add()
            if len(items) > 1:
                made.CopyFrom(items[0])
    elif len(items) and chance.random() < 0.5:
        if chance.random() < 0.4:
            del items[chance.randrange(len(items))]
        else:
            items[chance.randrange(len(items))] = _value(field, chance)
    else:
        items.extend(_value(field, chance) for _ in range(chance.choice((1, 2, MANY))))


def _value(field: FieldDescriptor, chance: Random) -> Any:
    kind = field.cpp_type
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        return (chance.choice(INTEGERS) - low) % (high - low) + low
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return float(chance.choice([number for number in NUMBERS if abs(number) < 1e300 or number != number]))
    text = chance.choice(TEXTS).encode("utf-8", "replace")
    return text if field.type == FieldDescriptor.TYPE_BYTES else text.decode()
