/* What the guests share: types and structures as ntddk.h and ntdddump.h have them. */
typedef unsigned char UCHAR; typedef unsigned short USHORT; typedef short CSHORT;
typedef unsigned int ULONG; typedef unsigned long long ULONG64; typedef int NTSTATUS;
typedef void *PVOID; typedef __SIZE_TYPE__ SIZE;
#ifdef _M_IX86
#define API __stdcall
#else
#define API
#endif
#define EXPORT __declspec(dllexport)
#define IN __declspec(dllimport)
#define NOINLINE __attribute__((noinline))
typedef struct { ULONG64 Cylinders; ULONG MediaType, Tracks, Sectors, BytesPerSector; } GEOMETRY;
typedef struct { ULONG Size, Style; UCHAR Id[16]; } PARTITION;
typedef struct { ULONG DumpType; PVOID DeviceObject; GEOMETRY Geometry; ULONG64 DiskSize; PARTITION Partition; PVOID DumpData; ULONG Size, Flags; } EXTENSION;
typedef struct MDL { struct MDL *Next; CSHORT Size, Flags; PVOID Process, MappedSystemVa, StartVa; ULONG ByteCount, ByteOffset; } MDL;
#define OK 0
#define UNSUCCESSFUL ((NTSTATUS)0xC0000001)
#define ACCESS_DENIED ((NTSTATUS)0xC0000022)
#define NO_MEMORY ((NTSTATUS)0xC0000017)
