"""What an attacker would try, tried; `docs/explanation/security.md` says what holds, and why."""
