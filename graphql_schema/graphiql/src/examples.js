// The tabs of a first visit: one for everything the schema can do.

import tasks from "./examples/Tasks.graphql";
import tasksVariables from "./examples/Tasks.json";
import oneTask from "./examples/OneTask.graphql";
import oneTaskVariables from "./examples/OneTask.json";
import changes from "./examples/Changes.graphql";
import viewer from "./examples/Viewer.graphql";
import createTask from "./examples/CreateTask.graphql";
import createTaskVariables from "./examples/CreateTask.json";
import createTasks from "./examples/CreateTasks.graphql";
import createTasksVariables from "./examples/CreateTasks.json";
import updateTask from "./examples/UpdateTask.graphql";
import updateTaskVariables from "./examples/UpdateTask.json";
import deleteTask from "./examples/DeleteTask.graphql";
import deleteTaskVariables from "./examples/DeleteTask.json";
import deleteTasks from "./examples/DeleteTasks.graphql";
import deleteTasksVariables from "./examples/DeleteTasks.json";
import trash from "./examples/Trash.graphql";
import trashVariables from "./examples/Trash.json";

const tab = (query, variables) => ({
  query: query.trimEnd(),
  variables: variables && JSON.stringify(variables, null, 2),
});

export const examples = [
  tab(tasks, tasksVariables),
  tab(createTask, createTaskVariables),
  tab(oneTask, oneTaskVariables),
  tab(updateTask, updateTaskVariables),
  tab(deleteTask, deleteTaskVariables),
  tab(deleteTasks, deleteTasksVariables),
  tab(trash, trashVariables),
  tab(createTasks, createTasksVariables),
  tab(changes),
  tab(viewer),
];
