CREATE TABLE items (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    price_cents INTEGER NOT NULL
);
INSERT INTO items (name, price_cents) VALUES ('kettle', 4900), ('teapot', 3500), ('cup', 900);
