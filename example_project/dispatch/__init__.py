"""The flight-dispatch desk: airports in, alternates, maps, mails, money and a report out."""
