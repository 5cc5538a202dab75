"""Facts for `devloop check`: an engine, a cluster and its nodes go in, values of `checks.facts` come out;
commands alone import it."""
