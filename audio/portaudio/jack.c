#define _GNU_SOURCE
#include "jack.h"

#include <dlfcn.h>
#include <stddef.h>

// A program's own functions come before those of the libraries that it was linked
// with: PortAudio calls these, and they call JACK's.

// PortAudio asserts that JACK never refuses the end of something, and so ends the
// process when JACK's server has died or dies meanwhile. It does nothing else with
// these results: here they are always good.
#define ALWAYS_GOOD(name, params, args)              \
	int name params {                                \
		int(*next) params = dlsym(RTLD_NEXT, #name); \
		if (next != NULL)                            \
			(void)next args;                         \
		return 0;                                    \
	}

ALWAYS_GOOD(jack_port_unregister, (void *client, void *port), (client, port))
ALWAYS_GOOD(jack_deactivate, (void *client), (client))
ALWAYS_GOOD(jack_client_close, (void *client), (client))

typedef void (*on_shutdown)(void *arg);

static struct {
	void *client, *arg;
	on_shutdown tell;
} portaudio;

void jack_on_shutdown(void *client, on_shutdown tell, void *arg) {
	void (*next)(void *, on_shutdown, void *) = dlsym(RTLD_NEXT, "jack_on_shutdown");
	portaudio.client = client;
	portaudio.tell = tell;
	portaudio.arg = arg;
	if (next != NULL)
		next(client, tell, arg);
}

void jack_give_up(void) {
	if (portaudio.tell != NULL)
		jack_deactivate(portaudio.client);
}

void jack_is_down(void) {
	if (portaudio.tell != NULL)
		portaudio.tell(portaudio.arg);
}

int jack_sleep(void) {
	return portaudio.tell == NULL ? 0 : jack_deactivate(portaudio.client);
}

int jack_awake(void) {
	int (*next)(void *) = dlsym(RTLD_NEXT, "jack_activate");
	return portaudio.tell == NULL || next == NULL ? 0 : next(portaudio.client);
}

void jack_forget(void) { portaudio.tell = NULL; }
