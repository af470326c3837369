"""The lines of CLIENT LIST, as fields."""

NEWER_FIELDS = ["lib-name", "lib-ver"]  # Redis 7.2 and later append these to the line of 7.0


def parse_line(line):
    return dict(field.split("=", 1) for field in line.split(" "))


def field_names(line):
    return [field.split("=", 1)[0] for field in line.split(" ")]


def client_lines(reply):
    text = reply.value.decode()
    if reply.raw.startswith(b"="):
        text = text.removeprefix("txt:")
    assert text == "" or text.endswith("\n")
    return text.splitlines()


def client_info(connection):
    (line,) = client_lines(connection.command("CLIENT", "INFO"))
    return parse_line(line)
