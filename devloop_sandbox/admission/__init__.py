"""An object on its way into the store in, the same object with defaults and addresses, or a refusal, out;
used by the server and, for folders of the host, by the node.
"""
