/* A debugger host in the manner of kd.exe, on the dbgeng.dll of its own folder.

     kd -z DUMP | -k CONNECTION   SYMBOL_PATH   COMMAND_FILE

   Executes the lines of the file, one after another. After a command that lets the machine run it
   waits for the next stop, as kd does, so that breakpoint callbacks run inside this wait. Each
   command's output follows a line "\x1e COMMAND"; the engine's own log gets prompt and command as a
   user's session would. A command that fails prints "\x1f HRESULT". "@serve FILE" idles at the prompt
   until FILE is there, as a debugger does that others joined. */
#define INITGUID
#include <windows.h>
#include <dbgeng.h>
#include <stdio.h>
#include <string.h>

#define CALL(object, method, ...) (object)->lpVtbl->method((object), ##__VA_ARGS__)

static HRESULT WINAPI query(IDebugOutputCallbacks *self, REFIID iid, void **out)
{
    *out = NULL;
    if (!IsEqualGUID(iid, &IID_IUnknown) && !IsEqualGUID(iid, &IID_IDebugOutputCallbacks))
        return E_NOINTERFACE;
    *out = self;
    return S_OK;
}
static ULONG WINAPI count(IDebugOutputCallbacks *self)
{
    (void)self;
    return 1;
}
static HRESULT WINAPI output(IDebugOutputCallbacks *self, ULONG mask, PCSTR text)
{
    (void)self;
    (void)mask;
    fputs(text, stdout);
    fflush(stdout);
    return S_OK;
}
static IDebugOutputCallbacksVtbl methods = {query, count, count, output};
static IDebugOutputCallbacks sink = {&methods};

static int failed(const char *what, HRESULT result)
{
    printf("\x1f %s 0x%08lx\n", what, (unsigned long)result);
    fflush(stdout);
    return 1;
}

/* Runs the machine until it stops; 0 when the session has ended. */
static int settle(IDebugControl *control)
{
    for (;;) {
        ULONG status = DEBUG_STATUS_NO_DEBUGGEE;
        CALL(control, GetExecutionStatus, &status);
        if (status == DEBUG_STATUS_BREAK) return 1;
        if (status == DEBUG_STATUS_NO_DEBUGGEE) return 0;
        HRESULT result = CALL(control, WaitForEvent, 0, INFINITE);
        if (FAILED(result)) return failed("wait", result), 0;
    }
}

/* Idles at the prompt as WinDbg does: serves debuggers that joined, waits for events while the machine
   runs, until a file is there (or two minutes). */
static const char *awaited;
static DWORD WINAPI wake(void *control)
{
    while (GetFileAttributesA(awaited) == INVALID_FILE_ATTRIBUTES) Sleep(100);
    CALL((IDebugControl *)control, SetInterrupt, DEBUG_INTERRUPT_ACTIVE);
    return 0;
}
static void serve(IDebugClient *client, IDebugControl *control, const char *until)
{
    awaited = until;
    CloseHandle(CreateThread(NULL, 0, wake, control, 0, NULL));
    for (ULONGLONG end = GetTickCount64() + 120000; GetTickCount64() < end;) {
        ULONG status = DEBUG_STATUS_NO_DEBUGGEE;
        CALL(control, GetExecutionStatus, &status);
        if (status == DEBUG_STATUS_NO_DEBUGGEE) return;
        if (status != DEBUG_STATUS_BREAK)
            CALL(control, WaitForEvent, 0, INFINITE);
        else if (GetFileAttributesA(until) != INVALID_FILE_ATTRIBUTES)
            return;
        else
            CALL(client, DispatchCallbacks, 50);
    }
}

int main(int argc, char **argv)
{
    IDebugClient *client;
    IDebugControl *control;
    IDebugSymbols *symbols;
    HRESULT result;
    static char line[65536];
    if (argc != 5) return failed("usage", E_INVALIDARG);
    HMODULE engine = LoadLibraryW(L"dbgeng.dll");
    HRESULT(WINAPI * create)(REFIID, void **) =
        engine ? (void *)GetProcAddress(engine, "DebugCreate") : NULL;
    FILE *commands = fopen(argv[4], "r");
    if (!create || !commands) return failed("dbgeng.dll or command file", E_FAIL);
    if ((result = create(&IID_IDebugClient, (void **)&client))) return failed("create", result);
    CALL(client, QueryInterface, &IID_IDebugControl, (void **)&control);
    CALL(client, QueryInterface, &IID_IDebugSymbols, (void **)&symbols);
    CALL(client, SetOutputCallbacks, &sink);
    CALL(symbols, SetSymbolPath, argv[3]);
    if (!strcmp(argv[1], "-z")) {
        result = CALL(client, OpenDumpFile, argv[2]);
    } else {
        CALL(control, AddEngineOptions, DEBUG_ENGOPT_INITIAL_BREAK);
        result = CALL(client, AttachKernel, DEBUG_ATTACH_KERNEL_CONNECTION, argv[2]);
    }
    if (FAILED(result)) return failed("open", result);
    if (FAILED(result = CALL(control, WaitForEvent, 0, INFINITE)))
        return failed("first stop", result);
    while (fgets(line, sizeof line, commands)) {
        line[strcspn(line, "\r\n")] = 0;
        printf("\n\x1e %s\n", line);
        fflush(stdout);
        if (!strncmp(line, "@serve ", 7)) {
            serve(client, control, line + 7);
            continue;
        }
        CALL(control, OutputPrompt, DEBUG_OUTCTL_ALL_OTHER_CLIENTS, " ");
        result = CALL(control, Execute, DEBUG_OUTCTL_ALL_CLIENTS, line, DEBUG_EXECUTE_ECHO);
        if (FAILED(result)) failed("execute", result);
        if (!settle(control)) break;
    }
    printf("\n\x1e end\n");
    fflush(stdout);
    CALL(client, EndSession, DEBUG_END_ACTIVE_DETACH);
    TerminateProcess(GetCurrentProcess(), 0); /* an extension's unloading may throw, and says nothing */
    return 0;
}
