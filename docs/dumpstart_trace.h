/*
 * dumpstart_trace.h: events by which a crash dump filter driver tells dumpstart of its callbacks.
 *
 * Include it after <ntddk.h>, <ntdddump.h> and <TraceLoggingProvider.h> in one source file:
 *
 *     DUMPSTART_DEFINE_PROVIDER();                     // at file scope, once
 *     TraceLoggingRegister(DumpstartProvider);         // in DriverEntry
 *
 *     NTSTATUS AcmeStart(PFILTER_EXTENSION Extension)
 *     {
 *         NTSTATUS status;
 *         ULONG call = DumpstartEntry(L"dump_acme.sys", DumpstartDumpStart, Extension);
 *         status = AcmeReallyStart(Extension);
 *         DumpstartReturn(L"dump_acme.sys", DumpstartDumpStart, call, status);
 *         return status;
 *     }
 *
 * At HIGH_LEVEL everything an event points at must be resident: the filter's image is, and so are
 * stack variables. Start the session with non-paged buffers and with EVENT_TRACE_ADDTO_TRIAGE_DUMP
 * (0x80000000), so that Windows saves its buffers in the dump.
 *
 * Licence: MIT, as dumpstart.
 */
#ifndef DUMPSTART_TRACE_H
#define DUMPSTART_TRACE_H

/* Numbers of the callbacks, in the order of FILTER_INITIALIZATION_DATA. */
typedef enum _DUMPSTART_CALLBACK {
    DumpstartDumpStart = 1,
    DumpstartDumpWrite = 2,
    DumpstartDumpFinish = 3,
    DumpstartDumpUnload = 4,
    DumpstartDumpRead = 5,
    DumpstartDumpPreReadWrite = 6
} DUMPSTART_CALLBACK;

/* {0f41c9b5-7d1e-5a1c-9d0e-6d5a8b1f7c42} */
#define DUMPSTART_DEFINE_PROVIDER()                                                          \
    TRACELOGGING_DEFINE_PROVIDER(DumpstartProvider, "Dumpstart-Callbacks",                   \
        (0x0f41c9b5, 0x7d1e, 0x5a1c, 0x9d, 0x0e, 0x6d, 0x5a, 0x8b, 0x1f, 0x7c, 0x42))

TRACELOGGING_DECLARE_PROVIDER(DumpstartProvider);

/* Calls so far; the number joins an entry with its return. */
static volatile LONG DumpstartCalls;

/* Says that a callback was entered; returns the number of the call for DumpstartReturn. */
static __inline ULONG DumpstartEntry(PCWSTR Filter, DUMPSTART_CALLBACK Callback, PVOID Extension)
{
    LARGE_INTEGER frequency;
    LARGE_INTEGER clock = KeQueryPerformanceCounter(&frequency);
    ULONG call = (ULONG)InterlockedIncrement(&DumpstartCalls);

    TraceLoggingWrite(DumpstartProvider, "CallbackEntry",
        TraceLoggingOpcode(1 /* WINEVENT_OPCODE_START */),
        TraceLoggingWideString(Filter, "Filter"),
        TraceLoggingUInt8((UCHAR)Callback, "Callback"),
        TraceLoggingUInt32(call, "Call"),
        TraceLoggingPointer(Extension, "Extension"),
        TraceLoggingUInt64((ULONGLONG)clock.QuadPart, "Clock"),
        TraceLoggingUInt64((ULONGLONG)frequency.QuadPart, "ClockFrequency"));
    return call;
}

/* Says that a callback returns with a status. */
static __inline VOID DumpstartReturn(PCWSTR Filter, DUMPSTART_CALLBACK Callback, ULONG Call,
                                     NTSTATUS Status)
{
    LARGE_INTEGER frequency;
    LARGE_INTEGER clock = KeQueryPerformanceCounter(&frequency);

    TraceLoggingWrite(DumpstartProvider, "CallbackReturn",
        TraceLoggingOpcode(2 /* WINEVENT_OPCODE_STOP */),
        TraceLoggingWideString(Filter, "Filter"),
        TraceLoggingUInt8((UCHAR)Callback, "Callback"),
        TraceLoggingUInt32(Call, "Call"),
        TraceLoggingNTStatus(Status, "Status"),
        TraceLoggingUInt64((ULONGLONG)clock.QuadPart, "Clock"),
        TraceLoggingUInt64((ULONGLONG)frequency.QuadPart, "ClockFrequency"));
}

#endif /* DUMPSTART_TRACE_H */
