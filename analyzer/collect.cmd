@echo off
rem Gathers what tells of a crash dump on this machine into one folder, and zips it where tar can.
rem It reads and copies; it changes no setting. Start it as administrator.
rem Usage: collect.cmd [FOLDER]
setlocal enableextensions
set "OUT=%~1"
if "%OUT%"=="" set "OUT=%TEMP%\dumpstart-%COMPUTERNAME%"
if exist "%OUT%" (
  echo %OUT% is there already: name another folder.
  exit /b 1
)
mkdir "%OUT%"
if not exist "%OUT%\" exit /b 1
echo Gathering into %OUT%
call :dump "%SystemRoot%\MEMORY.DMP"
if exist "%SystemRoot%\Minidump" (
  mkdir "%OUT%\Minidump"
  copy /y "%SystemRoot%\Minidump\*.dmp" "%OUT%\Minidump" >nul 2>&1
)
for %%D in (C D E F) do (
  if exist %%D:\DumpStack.log copy /y %%D:\DumpStack.log "%OUT%\DumpStack-%%D.log" >nul 2>&1
  if not exist "%OUT%\DumpStack-%%D.log" xcopy /h /y /q %%D:\DumpStack.log "%OUT%\" >nul 2>&1
)
wevtutil epl System "%OUT%\System.evtx" >nul 2>&1
reg export HKLM\SYSTEM\CurrentControlSet\Control\CrashControl "%OUT%\CrashControl.reg" /y >nul 2>&1
reg export HKLM\SYSTEM\CurrentControlSet\Services "%OUT%\Services.reg" /y >nul 2>&1
fltmc filters > "%OUT%\fltmc.txt" 2>&1
driverquery /v /fo csv > "%OUT%\driverquery.csv" 2>&1
ver > "%OUT%\windows.txt"
dir /a /s "%SystemRoot%\Minidump" "%SystemRoot%\MEMORY.DMP" >> "%OUT%\windows.txt" 2>&1
if exist "%SystemRoot%\System32\tar.exe" tar -a -c -f "%OUT%.zip" -C "%OUT%" . >nul 2>&1
if exist "%OUT%.zip" (
  echo Send %OUT%.zip, then: dumpstart analyze "%OUT%.zip"
) else (
  echo Zip and send %OUT%, then: dumpstart analyze "%OUT%"
)
echo A dump holds what was in memory, which can be passwords and keys: send it only to whom you trust.
exit /b 0

:dump
if not exist %1 exit /b 0
set "SIZE="
for %%F in (%1) do set "SIZE=%%~zF"
set "MB=%SIZE:~0,-6%"
if "%MB%"=="" set "MB=0"
if %MB% GTR @MOST@ (
  echo %~1 is larger than @MOST@ MB and is left where it is.
  exit /b 0
)
copy /y %1 "%OUT%" >nul 2>&1
if not exist "%OUT%\%~nx1" echo %~1 cannot be read: start this as administrator.
exit /b 0
