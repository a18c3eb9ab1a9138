/* Types that the guest's modules share. Structure layouts: WDK's ntddk.h and ntdddump.h (64-bit,
   Windows 8 and later); the tail of FILTER_CONTEXT as analyzer/layouts/crashdmp.py has it. */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char UCHAR;
typedef unsigned short USHORT;
typedef unsigned int ULONG;
typedef unsigned long long ULONG64;
typedef int NTSTATUS;
typedef void *PVOID;
typedef struct _LIST_ENTRY {
    struct _LIST_ENTRY *Flink, *Blink;
} LIST_ENTRY;
typedef struct _UNICODE_STRING {
    USHORT Length, MaximumLength;
    USHORT *Buffer;
} UNICODE_STRING;

typedef struct _MDL {
    struct _MDL *Next;
    USHORT Size, MdlFlags;
    PVOID Process, MappedSystemVa, StartVa;
    ULONG ByteCount, ByteOffset;
} MDL;

typedef struct _DISK_GEOMETRY {
    ULONG64 Cylinders;
    ULONG MediaType, TracksPerCylinder, SectorsPerTrack, BytesPerSector;
} DISK_GEOMETRY;

typedef struct _DISK_PARTITION_INFO {
    ULONG SizeOfPartitionInfo, PartitionStyle;
    UCHAR DiskId[16];
} DISK_PARTITION_INFO;

typedef struct _FILTER_EXTENSION {
    ULONG DumpType;
    PVOID DeviceObject;
    DISK_GEOMETRY Geometry;
    ULONG64 DiskSize;
    DISK_PARTITION_INFO PartitionInfo;
    PVOID DumpData;
    ULONG Size, Flags;
} FILTER_EXTENSION;

typedef NTSTATUS CALLBACK_ROUTINE(FILTER_EXTENSION *);
typedef NTSTATUS TRANSFER_ROUTINE(FILTER_EXTENSION *, ULONG64 *, MDL *);

typedef struct _FILTER_INITIALIZATION_DATA {
    ULONG MajorVersion, MinorVersion;
    CALLBACK_ROUTINE *DumpStart;
    TRANSFER_ROUTINE *DumpWrite;
    CALLBACK_ROUTINE *DumpFinish, *DumpUnload;
    PVOID DumpData;
    ULONG MaxPagesPerWrite, Flags;
    TRANSFER_ROUTINE *DumpRead;
} FILTER_INITIALIZATION_DATA;

/* crashdmp's node for one filter */
typedef struct _FILTER_CONTEXT {
    FILTER_INITIALIZATION_DATA Init;
    FILTER_EXTENSION Extension;
    LIST_ENTRY Link;
    ULONG State;
    PVOID StackContext, DriverEntry;
} FILTER_CONTEXT;

/* the part of a dump stack context that keeps its shape between builds, and what is before it */
typedef struct _STACK_CONTEXT {
    ULONG Length, DumpType;
    PVOID Unused[57];
    PVOID PortRoutines[10];
    ULONG64 ScsiAddress;
    DISK_GEOMETRY Geometry;
    ULONG64 DiskSize;
    DISK_PARTITION_INFO PartitionInfo;
    PVOID AttachedDevice;
    LIST_ENTRY FilterList;
} STACK_CONTEXT;

#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
SIZE(FILTER_EXTENSION, 0x58);
SIZE(FILTER_INITIALIZATION_DATA, 0x40);
SIZE(FILTER_CONTEXT, 0xC0);

enum { START, WRITE, FINISH, UNLOAD, READ, CALLBACKS };
enum { CRASH = 1, HIBERNATION = 2 };

/* One call of a callback as the scenario wants it. */
typedef struct _STEP {
    ULONG64 Ticks; /* how much the clock advances */
    NTSTATUS Status;
    ULONG Hang;    /* never return */
    ULONG PokeAt;  /* offset in the extension of a ULONG that the callback changes; 0: none */
    ULONG Poke;
} STEP;

/* What the simulator and the guest share; it lies in nt's image. */
typedef struct _SHARED {
    ULONG64 Clock;     /* the time stamp counter of this machine */
    ULONG Processor;   /* which processor runs */
    ULONG Request;     /* set by the simulator, cleared by the guest when done */
    ULONG Stack, Index; /* operands of the request */
    ULONG64 Idle;      /* counts while the machine idles */
    ULONG Made;        /* calls of callbacks that returned */
    ULONG Unused;
    struct {
        ULONG64 Routine, Clock;
        NTSTATUS Status;
        ULONG Processor;
    } Log[64];
} SHARED;

enum { REQUEST_LOAD = 1, REQUEST_DUMP, REQUEST_UNLOAD };

#endif
