"""Items as tokens: histories of users, what items are called, and what a language model is compared with."""
