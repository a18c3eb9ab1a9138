/* A dump filter whose callbacks do what the scenario's script says. */
#include "guest.h"

#define STEPS 8
STEP Script[CALLBACKS][STEPS]; /* written by the simulator before the machine starts */
ULONG Called[CALLBACKS];
SHARED *Shared;
ULONG64 DumpData[4] = {0x544C4644};

#ifdef FRAMES
#include "frames.inc"
#endif

static NTSTATUS play(ULONG callback, FILTER_EXTENSION *extension)
{
    ULONG call = Called[callback]++;
    const STEP *step = &Script[callback][call < STEPS ? call : STEPS - 1];
    Shared->Clock += step->Ticks;
#ifdef FRAMES
    if (callback == START) Deep(call);
#endif
    if (step->PokeAt) *(ULONG *)((UCHAR *)extension + step->PokeAt) = step->Poke;
    while (*(volatile const ULONG *)&step->Hang) {
    }
    return step->Status;
}

__attribute__((noinline)) NTSTATUS DumpStart(FILTER_EXTENSION *extension)
{
    return play(START, extension);
}

__attribute__((noinline)) NTSTATUS DumpWrite(FILTER_EXTENSION *extension, ULONG64 *offset, MDL *mdl)
{
    DumpData[1] = *offset;
    DumpData[2] += mdl->ByteCount;
    return play(WRITE, extension);
}

__attribute__((noinline)) NTSTATUS DumpRead(FILTER_EXTENSION *extension, ULONG64 *offset, MDL *mdl)
{
    DumpData[1] = *offset;
    DumpData[3] += mdl->ByteCount;
    return play(READ, extension);
}

__attribute__((noinline)) NTSTATUS DumpFinish(FILTER_EXTENSION *extension)
{
    return play(FINISH, extension);
}

__attribute__((noinline)) NTSTATUS DumpUnload(FILTER_EXTENSION *extension)
{
    return play(UNLOAD, extension);
}

NTSTATUS DriverEntry(FILTER_EXTENSION *extension, FILTER_INITIALIZATION_DATA *init)
{
    (void)extension;
    init->DumpStart = DumpStart;
    init->DumpWrite = DumpWrite;
    init->DumpFinish = DumpFinish;
    init->DumpUnload = DumpUnload;
    init->DumpRead = DumpRead;
    init->DumpData = DumpData;
    init->Flags = 1; /* it has DumpRead */
    return 0;
}
