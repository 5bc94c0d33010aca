/* A stand-in for libnvidia-ml.so.1 that answers from the text file named by NVML_STUB_FILE, read anew at every call.
 *
 * One `key = value` a line: an absent key answers 3 (not supported), `!15` answers code 15, `hang` never answers,
 * `sleep-in-kernel` never answers in state D, `crash` ends the process by SIGSEGV. `init` and `gpuN.handle` carry faults
 * only; `gpuN.xids` lists the error reports so far. After a failed init every call answers 1, as the real library does.
 * -DWITHOUT_V3 leaves out the _v3 process lists, -DWITHOUT_TEMPERATURE_V and -DWITHOUT_EVENT_REASONS the newer names,
 * -DANCIENT all of these and what came after driver 450.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef ANCIENT
#define WITHOUT_V3
#define WITHOUT_TEMPERATURE_V
#define WITHOUT_EVENT_REASONS
#define WITHOUT_MEMORY_V2
#define WITHOUT_MIG
#define WITHOUT_EVENTS
#define WITHOUT_CUDA_V2
#endif

enum { OK = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10 };
enum { MAX_LINE = 4096, MAX_GPUS = 16, XID_EVENT = 8 };

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_v1;
typedef struct { u32 version; u64 total, reserved, free, used; } memory_v2;
typedef struct { u32 gpu, memory; } utilization;
typedef struct { u32 version, sensor; int celsius; } temperature_v1;
typedef struct { u32 pid; u64 bytes; u32 gi, ci; } process;
typedef struct { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; } pci_info;

static int initialized = 0;

/* 0 with the value in `out`, else the code to answer. */
static int look_up(const char *key, char *out)
{
    const char *path = getenv("NVML_STUB_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[MAX_LINE];
    int found = 0;
    if (!file)
        return NOT_SUPPORTED;
    while (fgets(line, sizeof line, file)) {
        char *value = strchr(line, '=');
        size_t length;
        if (line[0] == '#' || !value)
            continue;
        *value++ = '\0';
        for (length = strlen(line); length && line[length - 1] == ' '; length--)
            line[length - 1] = '\0';
        if (strcmp(line, key))
            continue;
        value += strspn(value, " ");
        value[strcspn(value, "\r\n")] = '\0';
        strcpy(out, value);
        found = 1;
    }
    fclose(file);
    if (!found)
        return NOT_SUPPORTED;
    if (out[0] == '!')
        return atoi(out + 1);
    while (!strcmp(out, "hang"))
        pause();
    if (!strcmp(out, "crash"))
        raise(SIGSEGV);
    if (!strcmp(out, "sleep-in-kernel") && vfork() == 0) { /* the parent waits in state D until its child is gone */
        for (;;)
            pause();
    }
    return OK;
}

/* A handle is (gpu + 1) * 1000 + (mig + 1), the last part 0 for a whole card. */
static int ask(void *handle, const char *figure, char *out)
{
    char key[128];
    long number = (long)handle;
    if (!initialized)
        return UNINITIALIZED;
    if (number % 1000)
        snprintf(key, sizeof key, "gpu%ld.mig%ld.%s", number / 1000 - 1, number % 1000 - 1, figure);
    else
        snprintf(key, sizeof key, "gpu%ld.%s", number / 1000 - 1, figure);
    return look_up(key, out);
}

static int ask_number(void *handle, const char *figure, u32 *out)
{
    char text[MAX_LINE];
    int code = ask(handle, figure, text);
    if (code == OK)
        *out = (u32)strtoul(text, NULL, 0);
    return code;
}

static int ask_text(void *handle, const char *figure, char *out, u32 length)
{
    char text[MAX_LINE];
    int code = ask(handle, figure, text);
    if (code == OK)
        snprintf(out, length, "%s", text);
    return code;
}

int nvmlInitWithFlags(u32 flags)
{
    char text[MAX_LINE];
    int code = look_up("init", text);
    (void)flags;
    initialized = code == OK || code == NOT_SUPPORTED;
    return initialized ? OK : code;
}

int nvmlShutdown(void)
{
    int code = initialized ? OK : UNINITIALIZED;
    initialized = 0;
    return code;
}

const char *nvmlErrorString(int code)
{
    (void)code;
    return "stub";
}

int nvmlSystemGetDriverVersion(char *out, u32 length)
{
    char text[MAX_LINE];
    int code = initialized ? look_up("driver", text) : UNINITIALIZED;
    if (code == OK)
        snprintf(out, length, "%s", text);
    return code;
}

int nvmlDeviceGetCount_v2(u32 *count)
{
    char text[MAX_LINE];
    int code = initialized ? look_up("count", text) : UNINITIALIZED;
    if (code == OK)
        *count = (u32)atoi(text);
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(u32 index, void **handle)
{
    char text[MAX_LINE];
    int code;
    *handle = (void *)((long)(index + 1) * 1000);
    code = ask(*handle, "handle", text);
    return code == NOT_SUPPORTED ? OK : code;
}

int nvmlDeviceGetName(void *handle, char *out, u32 length) { return ask_text(handle, "name", out, length); }
int nvmlDeviceGetUUID(void *handle, char *out, u32 length) { return ask_text(handle, "uuid", out, length); }

int nvmlDeviceGetPciInfo_v3(void *handle, pci_info *out)
{
    memset(out, 0, sizeof *out);
    return ask_text(handle, "pci", out->bus_id, sizeof out->bus_id);
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *out)
{
    char text[MAX_LINE];
    int code = ask(handle, "memory", text);
    if (code == OK)
        sscanf(text, "%llu %llu %llu", &out->total, &out->free, &out->used);
    return code;
}

#ifndef WITHOUT_MEMORY_V2
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *out)
{
    char text[MAX_LINE];
    int code = ask(handle, "memory_v2", text);
    if (code == OK)
        sscanf(text, "%llu %llu %llu %llu", &out->total, &out->reserved, &out->free, &out->used);
    return code;
}
#endif

int nvmlDeviceGetUtilizationRates(void *handle, utilization *out)
{
    char text[MAX_LINE];
    int code = ask(handle, "utilization", text);
    if (code == OK)
        sscanf(text, "%u %u", &out->gpu, &out->memory);
    return code;
}

#ifndef WITHOUT_TEMPERATURE_V
int nvmlDeviceGetTemperatureV(void *handle, temperature_v1 *out)
{
    return ask_number(handle, "temperature", (u32 *)&out->celsius);
}
#endif

int nvmlDeviceGetTemperature(void *handle, u32 sensor, u32 *out)
{
    (void)sensor;
    return ask_number(handle, "temperature", out);
}

int nvmlDeviceGetFanSpeed(void *handle, u32 *out) { return ask_number(handle, "fan_percent", out); }
int nvmlDeviceGetPowerUsage(void *handle, u32 *out) { return ask_number(handle, "power_mw", out); }
int nvmlDeviceGetEnforcedPowerLimit(void *handle, u32 *out) { return ask_number(handle, "power_limit_mw", out); }

int nvmlDeviceGetClockInfo(void *handle, u32 type, u32 *out)
{
    return ask_number(handle, type == 1 ? "clock_sm_mhz" : "clock_graphics_mhz", out);
}

int nvmlDeviceGetMaxClockInfo(void *handle, u32 type, u32 *out)
{
    return ask_number(handle, type == 1 ? "clock_sm_max_mhz" : "clock_graphics_max_mhz", out);
}

static int event_reasons(void *handle, u64 *out)
{
    u32 bits = 0;
    int code = ask_number(handle, "event_reasons", &bits);
    *out = bits;
    return code;
}

#ifndef WITHOUT_EVENT_REASONS
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *out) { return event_reasons(handle, out); }
#endif
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, u64 *out) { return event_reasons(handle, out); }

/* Asked twice, as the bindings do: with room for none, then with more than enough. `-` for bytes: not available. */
static int processes(void *handle, const char *list, u32 *count, process *out)
{
    char text[MAX_LINE], *rest, *word;
    u32 room = *count, seen = 0;
    int code = ask(handle, list, text);
    if (code != OK)
        return code;
    for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest), seen++) {
        char *bytes = strchr(word, ':');
        if (!out || seen >= room)
            continue;
        memset(&out[seen], 0, sizeof *out);
        out[seen].pid = (u32)strtoul(word, NULL, 10);
        out[seen].bytes = bytes && bytes[1] != '-' ? strtoull(bytes + 1, NULL, 10) : ~0ULL;
    }
    *count = seen;
    return seen > room ? TOO_SMALL : OK;
}

#ifndef WITHOUT_V3
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, u32 *count, process *out)
{
    return processes(handle, "compute", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, u32 *count, process *out)
{
    return processes(handle, "graphics", count, out);
}
#endif

int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, u32 *count, process *out)
{
    return processes(handle, "compute", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(void *handle, u32 *count, process *out)
{
    return processes(handle, "graphics", count, out);
}

#ifndef WITHOUT_MIG
int nvmlDeviceGetMigMode(void *handle, u32 *current, u32 *pending)
{
    char text[MAX_LINE];
    int code = ask(handle, "mig_mode", text);
    if (code == OK)
        sscanf(text, "%u %u", current, pending);
    return code;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, u32 *out) { return ask_number(handle, "mig_max", out); }

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, u32 index, void **out)
{
    char text[MAX_LINE];
    *out = (void *)((long)handle + index + 1);
    return ask(*out, "uuid", text) == OK ? OK : NOT_FOUND;
}

int nvmlDeviceGetGpuInstanceId(void *handle, u32 *out) { return ask_number(handle, "gi", out); }
int nvmlDeviceGetComputeInstanceId(void *handle, u32 *out) { return ask_number(handle, "ci", out); }
#endif

#ifndef WITHOUT_CUDA_V2
int nvmlSystemGetCudaDriverVersion_v2(int *out)
{
    char text[MAX_LINE];
    int code = initialized ? look_up("cuda", text) : UNINITIALIZED;
    if (code == OK)
        *out = atoi(text);
    return code;
}
#endif

#ifndef WITHOUT_EVENTS
/* A set watches one card; each wait gives the next of `gpuN.xids` that it has not given yet. */
typedef struct { void *device; u64 type, data; u32 gi, ci; } event;
typedef struct { void *handle; u32 given; } event_set;
static event_set sets[MAX_GPUS];
static u32 n_sets = 0;

int nvmlEventSetCreate(void **out)
{
    *out = &sets[n_sets++ % MAX_GPUS];
    return initialized ? OK : UNINITIALIZED;
}

int nvmlEventSetFree(void *set)
{
    ((event_set *)set)->handle = NULL;
    return OK;
}

int nvmlDeviceRegisterEvents(void *handle, u64 types, void *set)
{
    char text[MAX_LINE];
    ((event_set *)set)->handle = handle;
    return types == XID_EVENT ? ask(handle, "xids", text) : NOT_SUPPORTED;
}

int nvmlEventSetWait_v2(void *set, event *out, u32 timeout_ms)
{
    event_set *watched = set;
    char text[MAX_LINE], *rest, *word;
    u32 place = 0;
    int code = ask(watched->handle, "xids", text);
    (void)timeout_ms;
    if (code != OK)
        return code;
    for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest), place++) {
        if (place < watched->given)
            continue;
        watched->given++;
        memset(out, 0, sizeof *out);
        out->device = watched->handle;
        out->type = XID_EVENT;
        out->data = strtoull(word, NULL, 10);
        return OK;
    }
    return TIMEOUT;
}
#endif
