// Of a server that was killed JACK does not always say that it is gone, and
// PortAudio waits ten minutes for it in each call.

// jack_give_up makes sure that JACK does not call PortAudio any more. It blocks
// while the server stands still.
void jack_give_up(void);

// jack_is_down tells PortAudio that the server is gone: a call that waits for it
// goes on.
void jack_is_down(void);

// PortAudio's client of JACK is called each period from its initialization on, whether
// a stream runs or not. jack_sleep ends that: its ports are joined to nothing any
// more, and PortAudio waits in vain for it to be called. jack_awake begins it again,
// and returns 0 unless that failed. Both do nothing where there is no server.
int jack_sleep(void);
int jack_awake(void);

// jack_forget is called when PortAudio has ended.
void jack_forget(void);
