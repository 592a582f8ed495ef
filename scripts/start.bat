@echo off
rem A double click installs edgekeeper into the folder ek beside this one, puts an icon among the
rem programs, and opens the page. Later it only opens the page.
cd /d "%~dp0.."
if exist ek\installed goto serve
py -c "import sys; sys.exit(sys.version_info < (3, 11))"
if errorlevel 1 (
  echo Python 3.11 or newer is needed first: https://www.python.org/downloads
  goto failed
)
py -m venv ek || goto failed
ek\Scripts\pip install -c constraints.txt ".[web,video,heif]" || goto failed
ek\Scripts\edgekeeper serve --shortcut || goto failed
type nul > ek\installed
:serve
ek\Scripts\edgekeeper serve && exit /b
:failed
pause
