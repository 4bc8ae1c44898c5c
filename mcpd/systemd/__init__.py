"""What mcpd and the service manager that started it say to each other; nothing but sockets and the environment.

In: `manager` takes the variables of the environment, once and first of all, so that no child inherits them; what came
with them are `passed` descriptors, claimed by name, and how often the `watchdog` wants to hear of us. Out: `notify`,
one datagram a message. `status` has the words.

Without a manager everything here does nothing, and nobody has to ask whether there is one.
Sources: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), of systemd 252 on.
"""
