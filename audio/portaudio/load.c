//go:build !image

// PortAudio as Debian builds it needs JACK, and with it the libraries of C++ and a
// database: to load and join them takes more than a millisecond, before a program's
// first line. So they are loaded with the first call. What is here comes before what
// the library has under the same names, so that nothing else is bound to it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <portaudio.h>
#include <stddef.h>

static void *library;

// Its functions become the whole process's (RTLD_GLOBAL): jack.c looks for JACK's.
static void *found(const char *name) {
	if (library == NULL)
		library = dlopen("libportaudio.so.2", RTLD_NOW | RTLD_GLOBAL);
	return library == NULL ? NULL : dlsym(library, name);
}

// LOADED is a function of PortAudio, and what it returns where there is none.
#define LOADED(type, name, params, args, none) \
	type name params {                         \
		static type(*loaded) params;           \
		if (loaded == NULL)                    \
			loaded = found(#name);             \
		if (loaded == NULL)                    \
			return none;                       \
		return loaded args;                    \
	}

#define MISSING paNotInitialized

LOADED(int, Pa_GetVersion, (void), (), 0)
LOADED(const char *, Pa_GetVersionText, (void), (), "none")
LOADED(const char *, Pa_GetErrorText, (PaError code), (code), "PortAudio (libportaudio.so.2) cannot be loaded")
LOADED(PaError, Pa_Initialize, (void), (), MISSING)
LOADED(PaError, Pa_Terminate, (void), (), MISSING)
LOADED(PaHostApiIndex, Pa_GetHostApiCount, (void), (), MISSING)
LOADED(PaHostApiIndex, Pa_GetDefaultHostApi, (void), (), MISSING)
LOADED(const PaHostApiInfo *, Pa_GetHostApiInfo, (PaHostApiIndex api), (api), NULL)
LOADED(PaHostApiIndex, Pa_HostApiTypeIdToHostApiIndex, (PaHostApiTypeId type), (type), MISSING)
LOADED(PaDeviceIndex, Pa_HostApiDeviceIndexToDeviceIndex, (PaHostApiIndex api, int device), (api, device), MISSING)
LOADED(const PaHostErrorInfo *, Pa_GetLastHostErrorInfo, (void), (), NULL)
LOADED(PaDeviceIndex, Pa_GetDeviceCount, (void), (), MISSING)
LOADED(PaDeviceIndex, Pa_GetDefaultInputDevice, (void), (), paNoDevice)
LOADED(PaDeviceIndex, Pa_GetDefaultOutputDevice, (void), (), paNoDevice)
LOADED(const PaDeviceInfo *, Pa_GetDeviceInfo, (PaDeviceIndex device), (device), NULL)
LOADED(PaError, Pa_IsFormatSupported, (const PaStreamParameters *in, const PaStreamParameters *out, double rate), (in, out, rate), MISSING)
LOADED(PaError, Pa_OpenStream,
	   (PaStream **stream, const PaStreamParameters *in, const PaStreamParameters *out, double rate,
		unsigned long frames, PaStreamFlags flags, PaStreamCallback *callback, void *user),
	   (stream, in, out, rate, frames, flags, callback, user), MISSING)
LOADED(PaError, Pa_CloseStream, (PaStream *stream), (stream), MISSING)
LOADED(PaError, Pa_StartStream, (PaStream *stream), (stream), MISSING)
LOADED(PaError, Pa_StopStream, (PaStream *stream), (stream), MISSING)
LOADED(PaError, Pa_AbortStream, (PaStream *stream), (stream), MISSING)
LOADED(const PaStreamInfo *, Pa_GetStreamInfo, (PaStream *stream), (stream), NULL)
LOADED(PaTime, Pa_GetStreamTime, (PaStream *stream), (stream), 0)
LOADED(double, Pa_GetStreamCpuLoad, (PaStream *stream), (stream), 0)
LOADED(PaError, Pa_ReadStream, (PaStream *stream, void *buffer, unsigned long frames), (stream, buffer, frames), MISSING)
LOADED(PaError, Pa_WriteStream, (PaStream *stream, const void *buffer, unsigned long frames), (stream, buffer, frames), MISSING)
LOADED(signed long, Pa_GetStreamReadAvailable, (PaStream *stream), (stream), MISSING)
LOADED(signed long, Pa_GetStreamWriteAvailable, (PaStream *stream), (stream), MISSING)
