"""stylebatch: the algorithm of Gatys, Ecker and Bethge over whole collections of images."""
